/** Options of servers and clients, and their validation. */
import { abortSignal, integer, notEmpty, oneOf, options as checkOptions, requiredObject } from '../arguments.js';
import { invalidType } from '../errors.js';
import { toPath } from '../memory/object-options.js';
import type { ConnectLimits } from './connection.js';

/** The process at the other end of a connection, as the kernel knows it: `SO_PEERCRED`. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export interface ShareOptions {
  /** Where the socket is made. A socket there whose server has gone is replaced; anything else is refused with `EADDRINUSE`. */
  path: string | URL;
  /** Permissions of the socket: to connect, a process needs to write. Whatever the umask. Default `0o600`. */
  mode?: number;
  /** What clients may do, unless `authorize` says otherwise. Default `'rw'`, or `'r'` where the memory is not writable. */
  access?: 'r' | 'rw';
  /**
   * Asked for each connection: false refuses it, `'r'` and `'rw'` (at most what `access` says) accept it, true with `access`. What it throws
   * refuses too. It must answer within `timeout`. Default: all that can open the socket are accepted.
   */
  authorize?: (peer: Peer) => boolean | 'r' | 'rw' | Promise<boolean | 'r' | 'rw'>;
  /**
   * What a removal does to memory of the library's own. `'truncate'`: it is gone for every process at once; a client without a handler for
   * SIGBUS dies of its next access. `'orphan'`: its pages are emptied and nothing uses it any more; clients without this library go on
   * reading zeros. Default: `'orphan'` once a client has got the memory that has not said that it survives the other.
   */
  onRemoval?: 'truncate' | 'orphan';
  /** Milliseconds: for a peer to introduce itself, to send the rest of a message, and to acknowledge a removal. Default 5000. */
  timeout?: number;
  /** How many clients at once; more are refused. Default 256. */
  maxClients?: number;
}

export interface ServeOptions extends ShareOptions {
  /** How many interrupt vectors clients get: `Device.raise()` of others is not heard by them. 1 to 256, default 8. Of a device with `pci` that says it. */
  vectors?: number;
}

export interface ConnectOptions {
  /** Milliseconds to wait for each answer of the server. Default 5000. */
  timeout?: number;
  /** Ends the attempt to connect, which then rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface CheckedShareOptions {
  path: string;
  mode: number;
  access: 'r' | 'rw';
  authorize: NonNullable<ShareOptions['authorize']>;
  onRemoval: 'truncate' | 'orphan' | undefined;
  timeout: number;
  maxClients: number;
}

const DEFAULT_TIMEOUT = 5000;
const LONGEST_MS = 0x7fff_ffff;
const DEFAULT_CLIENTS = 256;
export const DEFAULT_VECTORS = 8;

export function toSocketPath(name: string, path: unknown): string {
  return notEmpty(name, toPath(path as string | URL));
}

function timeoutOption(value: unknown): number {
  return integer('options.timeout', value === undefined ? DEFAULT_TIMEOUT : value, 1, LONGEST_MS);
}

export function checkShareOptions(options: ShareOptions, writable: boolean): CheckedShareOptions {
  const given = requiredObject('options', options);
  const authorize = given.authorize === undefined ? () => true : given.authorize;
  if (typeof authorize !== 'function') throw invalidType('options.authorize', 'of type function', authorize);
  const access = oneOf('options.access', given.access, ['r', 'rw'], writable ? 'rw' : 'r');
  return {
    path: toSocketPath('options.path', given.path),
    mode: integer('options.mode', given.mode === undefined ? 0o600 : given.mode, 0, 0o777),
    access: writable ? access : 'r',
    authorize,
    onRemoval:
      given.onRemoval === undefined
        ? undefined
        : oneOf<'truncate' | 'orphan'>('options.onRemoval', given.onRemoval, ['truncate', 'orphan']),
    timeout: timeoutOption(given.timeout),
    maxClients: integer('options.maxClients', given.maxClients === undefined ? DEFAULT_CLIENTS : given.maxClients, 1, 65_536),
  };
}

export function checkVectors(vectors: unknown): number | undefined {
  return vectors === undefined ? undefined : integer('options.vectors', vectors, 1, 256);
}

export function checkConnectOptions(options: ConnectOptions | undefined): ConnectLimits {
  const { timeout, signal } = checkOptions<ConnectOptions>('options', options);
  return { timeout: timeoutOption(timeout), signal: abortSignal('options.signal', signal) };
}
