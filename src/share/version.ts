/** The first message of a connection: versions and capabilities, the latter as JSON. */
import { MOST_VERSION_DATA, viewOf, WireError } from './wire.js';

/** What this library speaks: the version that QEMU announces, and is refused a greater one than. */
export const VERSION = { major: 0, minor: 0 } as const;

/** What this library says of itself, beside what the protocol knows. */
export interface OwnCapability {
  /** The thread that speaks: a call within one and the same could never be answered. */
  thread: string;
  /** Of a client: true if it survives that memory is truncated. */
  survives?: boolean;
  /** Of a client: true if it asks for pages on a socket that comes with the memory, where they come at their first touch. */
  asksForPages?: boolean;
  /** Of a server. */
  serves?: 'memory' | 'device';
  name?: string;
  /** Names of the device's regions, in order. */
  regions?: string[];
  /** Where each of them is: BAR, offset, size, 1 for memory. */
  places?: number[][];
  /** Of each region: 0 for memory as any other, and registers; 1 where pages come at their first touch; 2 where first writes are asked about, too. */
  supplied?: number[];
}

export interface Version {
  major: number;
  minor: number;
  maxDescriptors: number;
  maxData: number;
  writeMultiple: boolean;
  /** Undefined where the peer is another program. */
  own: OwnCapability | undefined;
}

const DEFAULTS = { maxDescriptors: 1, maxData: 1 << 20 } as const;
/** What the JSON calls what this library says of itself. */
const OWN = 'revocable_mmap';
const MOST_NAME = 255;
const MOST_REGIONS = 64;

export function encodeVersion(version: Version): Uint8Array {
  const { maxDescriptors, maxData, writeMultiple, own } = version;
  const capabilities = {
    max_msg_fds: maxDescriptors,
    max_data_xfer_size: maxData,
    write_multiple: writeMultiple,
    ...(own === undefined ? {} : { [OWN]: own }),
  };
  const data = Buffer.from(`${JSON.stringify({ capabilities })}\0`);
  const body = new Uint8Array(4 + data.byteLength);
  const view = viewOf(body);
  view.setUint16(0, version.major, true);
  view.setUint16(2, version.minor, true);
  body.set(data, 4);
  return body;
}

/** @throws WireError for what is none; the connection cannot go on. Capabilities that this library does not know are passed over. */
export function decodeVersion(body: Uint8Array): Version {
  if (body.byteLength < 4) throw new WireError(`a version of ${body.byteLength} bytes`);
  const view = viewOf(body);
  const capabilities = objectIn(objectOf(parse(body.subarray(4))), 'capabilities');
  return {
    major: view.getUint16(0, true),
    minor: view.getUint16(2, true),
    maxDescriptors: numberIn(capabilities, 'max_msg_fds', DEFAULTS.maxDescriptors),
    maxData: numberIn(capabilities, 'max_data_xfer_size', DEFAULTS.maxData),
    writeMultiple: capabilities['write_multiple'] === true,
    own: OWN in capabilities ? ownOf(objectIn(capabilities, OWN)) : undefined,
  };
}

function parse(data: Uint8Array): unknown {
  if (data.byteLength === 0) return {};
  if (data.byteLength > MOST_VERSION_DATA) throw new WireError(`${data.byteLength} bytes of capabilities`);
  if (data[data.byteLength - 1] !== 0) throw new WireError('capabilities that do not end with a zero byte');
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data.subarray(0, -1)));
  } catch {
    throw new WireError('capabilities that are no JSON');
  }
}

type Members = Record<string, unknown>;

function objectOf(value: unknown): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new WireError('capabilities that are no object');
  return value as Members;
}

function objectIn(members: Members, name: string): Members {
  return Object.hasOwn(members, name) ? objectOf(members[name]) : {};
}

function numberIn(members: Members, name: string, fallback: number): number {
  if (!Object.hasOwn(members, name)) return fallback;
  const value = members[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new WireError(`a capability ${name} that is no count`);
  return value;
}

function ownOf(members: Members): OwnCapability {
  const { thread, survives, asksForPages, serves, name, regions, places, supplied } = members;
  const own: OwnCapability = { thread: shortText(thread) ?? '' };
  if (typeof survives === 'boolean') own.survives = survives;
  if (typeof asksForPages === 'boolean') own.asksForPages = asksForPages;
  if (serves === 'memory' || serves === 'device') own.serves = serves;
  const named = shortText(name);
  if (named !== undefined) own.name = named;
  if (Array.isArray(regions) && regions.length <= MOST_REGIONS) {
    const names = regions.map(shortText);
    if (names.every((region) => region !== undefined)) own.regions = names;
  }
  if (Array.isArray(places) && places.length <= MOST_REGIONS && places.every(isPlace)) own.places = places;
  if (Array.isArray(supplied) && supplied.length <= MOST_REGIONS && supplied.every((n) => n === 0 || n === 1 || n === 2))
    own.supplied = supplied;
  return own;
}

function isPlace(place: unknown): place is number[] {
  return Array.isArray(place) && place.length === 4 && place.every((n) => Number.isSafeInteger(n) && n >= 0);
}

function shortText(value: unknown): string | undefined {
  return typeof value === 'string' && value.length <= MOST_NAME && !value.includes('\0') ? value : undefined;
}
