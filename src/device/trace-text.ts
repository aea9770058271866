/**
 * Traces as text, one line an access. The grammar is in docs/reference/devices.md:
 *
 *     [seconds ' '] ['T' number ' '] ('R' | 'W') ' ' width ' ' region '+0x' offset [' 0x' value] [' failed']
 */
import { boolean, options as checkOptions } from '../arguments.js';
import { invalidType, TraceLineError } from '../errors.js';
import type { DeviceAccess } from './trace.js';

export type AccessWidth = 1 | 2 | 4 | 8;

export interface LineOptions {
  /** Each line begins with the seconds since the trace began, with six decimals. Default false. */
  time?: boolean;
  /** Each line says which thread: `T0` is the first that appears, `T1` the next. Default false. */
  threads?: boolean;
}

/** What a line says of an access. */
export interface AccessLine {
  /** Milliseconds since the trace began, where the line has it. */
  time?: number;
  /** The number of the thread in this text, where the line has it. */
  thread?: number;
  write: boolean;
  /** Bytes. */
  width: AccessWidth;
  /** Name of the region. */
  region: string;
  /** First byte, from the start of the region. */
  offset: number;
  /** A bigint for 8 bytes. 0 for a read that failed. */
  value: number | bigint;
  /** The model threw. */
  failed: boolean;
}

/** White space ends a word; what cannot be seen, or stored as UTF-8, must not hide in a name; and `\` is what escapes them. */
const ESCAPED = /[\s\\\p{Cc}\p{Cf}\p{Cs}]/gu;

function escapeName(name: string): string {
  return name.replace(ESCAPED, (character) =>
    [...Array(character.length).keys()].map((i) => `\\u${hex(character.charCodeAt(i), 4)}`).join(''),
  );
}

function unescapeName(text: string): string {
  return text.replace(/\\u([0-9a-f]{4})/g, (_, code: string) => String.fromCharCode(parseInt(code, 16)));
}

function hex(value: number | bigint, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}

/** Makes lines of the accesses of one text. */
export class LineWriter {
  readonly #time: boolean;
  readonly #threads: Map<number, number> | undefined;
  readonly #regions = new Map<string, string>();

  constructor(options: LineOptions | undefined) {
    const { time, threads } = checkOptions('options', options);
    this.#time = boolean('options.time', time, false);
    this.#threads = boolean('options.threads', threads, false) ? new Map<number, number>() : undefined;
  }

  lineOf({ time, thread, write, width, region, offset, value, failed }: DeviceAccess): string {
    const when = this.#time ? `${(time / 1000).toFixed(6)} ` : '';
    const who = this.#threads === undefined ? '' : `T${numbered(this.#threads, thread)} `;
    const what = failed && !write ? '' : ` 0x${hex(value, 2 * width)}`;
    const end = failed ? ' failed' : '';
    return `${when}${who}${write ? 'W' : 'R'} ${width} ${this.#escaped(region)}+0x${hex(offset, 4)}${what}${end}`;
  }

  lostLine(count: number): string {
    return `# ${count} accesses lost`;
  }

  #escaped(region: string): string {
    let name = this.#regions.get(region);
    if (name === undefined) this.#regions.set(region, (name = escapeName(region)));
    return name;
  }
}

function numbered(threads: Map<number, number>, thread: number): number {
  let number = threads.get(thread);
  if (number === undefined) threads.set(thread, (number = threads.size));
  return number;
}

const LINE =
  /^(?:(\d+)\.(\d{6}) )?(?:T(\d+) )?([RW]) ([1248]) ((?:[^\s\\]|\\u[0-9a-f]{4})*)\+0x([0-9a-f]{4,})(?: 0x([0-9a-f]+))?( failed)?$/;

/**
 * What a line of {@link Trace.lines} says; undefined where it is a comment, which begins with `#`: lost accesses, or notes of one's own.
 *
 * @throws TraceLineError `ERR_DEVICE_TRACE_LINE` for a line that no trace writes; TypeError unless it is a string.
 *
 * @example
 * ```js
 * parseAccess('W 4 control+0x0010 0x000000ff'); // { write: true, width: 4, region: 'control', offset: 16, value: 255, failed: false }
 * ```
 */
export function parseAccess(line: string): AccessLine | undefined {
  if (typeof line !== 'string') throw invalidType('line', 'of type string', line);
  if (line.startsWith('#')) return undefined;
  const found = LINE.exec(line);
  if (found === null) throw new TraceLineError(line);
  const [, seconds, micros, thread, direction, bytes, region, place, digits, failed] = found as (string | undefined)[];
  const width = Number(bytes) as AccessWidth;
  const write = direction === 'W';
  const offset = parseInt(place!, 16);
  // Written with as many digits as the access has, and left out where nothing was read.
  const hasNone = digits === undefined && !write && failed !== undefined;
  if (!hasNone && digits?.length !== 2 * width) throw new TraceLineError(line);
  if ((digits !== undefined && !write && failed !== undefined) || !Number.isSafeInteger(offset)) throw new TraceLineError(line);
  const bits = hasNone ? 0n : BigInt(`0x${digits}`);
  return {
    ...(seconds === undefined ? {} : { time: (Number(seconds) * 1e6 + Number(micros)) / 1000 }),
    ...(thread === undefined ? {} : { thread: Number(thread) }),
    write,
    width,
    region: unescapeName(region!),
    offset,
    value: width === 8 ? bits : Number(bits),
    failed: failed !== undefined,
  };
}
