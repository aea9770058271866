import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { notEmpty } from '../arguments.js';
import { toPath } from '../memory/object-options.js';
import { Connection } from './connection.js';
import { checkConnectOptions, type ConnectOptions } from './share-options.js';

/** A server that has answered. */
export interface ListedServer {
  /** Of its socket. */
  path: string;
  /** What it serves; `'unknown'` where the server is another program that speaks the protocol. */
  kind: 'memory' | 'device' | 'unknown';
  /** The object's or device's name; undefined where the server says none. */
  name: string | undefined;
}

/** How many sockets are asked at once. */
const AT_ONCE = 16;
/** How a socket's name begins until its server listens: see `native/share/socket.cc`. */
const TEMPORARY = '.revocable-';

/**
 * The servers whose sockets are in a folder, by path, as far as they let this process in and answer within `timeout`. It opens nothing: no
 * `open` op is called, and a server emits no event. Other sockets are connected to, and left.
 *
 * @throws (rejects) TypeError, RangeError on bad arguments; the system error of readdir(3); the signal's reason.
 *
 * @example
 * ```js
 * for (const { path, kind, name } of await list('/run/user/1000')) console.log(path, kind, name);
 * ```
 */
export async function list(directory: string | URL, options?: ConnectOptions): Promise<ListedServer[]> {
  const limits = checkConnectOptions(options);
  const folder = notEmpty('directory', toPath(directory));
  limits.signal?.throwIfAborted();
  const entries = await readdir(folder, { withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isSocket() && !entry.name.startsWith(TEMPORARY))
    .map((entry) => join(folder, entry.name))
    .sort();
  const found: (ListedServer | undefined)[] = [];
  for (let i = 0; i < paths.length; i += AT_ONCE) {
    found.push(...(await Promise.all(paths.slice(i, i + AT_ONCE).map(async (path) => ask(path, limits)))));
    limits.signal?.throwIfAborted();
  }
  return found.filter((server) => server !== undefined);
}

async function ask(path: string, limits: Parameters<typeof Connection.open>[1]): Promise<ListedServer | undefined> {
  try {
    const connection = await Connection.open(path, limits);
    const { own } = connection.version;
    connection.close();
    return { path, kind: own?.serves ?? 'unknown', name: own?.name };
  } catch {
    return undefined; // no server, none of this protocol, or one that refuses
  }
}
