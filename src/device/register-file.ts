/** Registers as data sheets describe them, answered by native code. */
import { bigintOf64Bits, integer, multipleOf, oneOf, options as checkOptions, requiredObject } from '../arguments.js';
import { branded } from '../brands.js';
import { invalidType, invalidValue } from '../errors.js';
import { ASKS_READS, ASKS_WRITES, REGISTER_KINDS } from '../native/enums.js';
import { native } from '../native/load.js';
import type { RegisterModel } from './device-ops.js';
import { halvesOf, valueOf } from './register-value.js';

/**
 * What reading and writing do. `'rw'` keeps what is written, and so does `'wo'`, which reads as if there were no register (`unlisted`);
 * `'ro'` ignores writes; `'w1c'` clears the bits that are written as ones, `'w1s'` sets them, `'wc'` clears all, whatever is written;
 * `'rc'` gives its value to one reader and is 0 after it, `'rs'` has all bits set after it, and both ignore writes; `'counter'` counts one
 * up at each access that reads any of its bytes, after it, and keeps what is written.
 *
 * The names are those of access policies in UVM; `docs/reference/devices.md` has those of SystemRDL and IP-XACT.
 */
export type RegisterKind = (typeof REGISTER_KINDS)[number];

export interface RegisterSpec {
  /** Bytes, from the start of the region; a multiple of `width`. */
  offset: number;
  /** Bytes: 1, 2, 4 or 8. Default 4. */
  width?: 1 | 2 | 4 | 8;
  /** Default `'rw'`. */
  kind?: RegisterKind;
  /** What it holds at first; a bigint for 8 bytes. Default 0. */
  value?: number | bigint;
  /**
   * Called in the device's thread at each read of the register, or of a part of it, before that is answered: with what it holds. What it
   * returns is set first; then the read has the effects of its kind. So a status can be computed when it is read.
   *
   * The accessing thread waits, as for the op `readRegister`, and an error that is thrown, or a promise, is the accessor's, as there.
   * Accesses that are of no register with a callback are still answered by native code in the thread that makes them.
   */
  onRead?(value: number | bigint): number | bigint | undefined | void;
  /**
   * Called in the device's thread at each write to the register, or to a part of it, after it has had the effects of its kind: with what
   * the register holds now, and with what was written, in its place in the register (0 for bytes that were not). So a doorbell can run
   * code. See {@link onRead}.
   */
  onWrite?(value: number | bigint, written: number | bigint): void;
}

export interface RegisterFileOptions {
  /** What bytes read as that no register covers. Default `'zeros'`. Writes to them go nowhere. */
  unlisted?: 'zeros' | 'ones';
}

/** A register that calls JavaScript. */
export interface CallingRegister {
  readonly offset: number;
  readonly width: number;
  readonly onRead: RegisterSpec['onRead'];
  readonly onWrite: RegisterSpec['onWrite'];
}

interface Register extends CallingRegister {
  index: number;
}

const words = new Float64Array(2);

/**
 * A model of registers in native code, for `regions: [{ kind: 'registers', model }]`: an access is answered in the thread that makes it,
 * raw ones within the fault handler, in a few microseconds and without waking the device's thread. Its own code reaches the registers
 * by {@link get} and {@link set}, which have none of the effects of an access; and single registers may call it:
 * {@link RegisterSpec.onRead}, {@link RegisterSpec.onWrite}.
 *
 * An access that covers several registers, or part of one, has the effect on each of those bytes. Behind one region at a time; once its
 * device is gone it may be given to the next, and keeps what it holds.
 *
 * @example
 * ```js
 * const model = new RegisterFile([
 *   { offset: 0x00, kind: 'ro', value: 0x010000ed },
 *   { offset: 0x04 },
 *   { offset: 0x24, kind: 'w1c' },
 * ]);
 * const device = new Device({ name: 'edu0', regions: [{ size: 4096, kind: 'registers', model }] });
 * const registers = new Uint32Array(device.open().map().buffer, 0, 1024);
 * model.set(0x24, 0b11);
 * registers[0x24 / 4] = 0b01;
 * model.get(0x24); // 0b10
 * ```
 */
export class RegisterFile {
  /** @internal */
  readonly _model: RegisterModel;
  readonly #registers = new Map<number, Register>();
  /** Registers with callbacks, by offset. */
  readonly #calling: CallingRegister[] = [];
  /** One past the last byte of a register. */
  #end = 0;
  /** Behind two regions it would have two locks, and read-modify-writes would not be indivisible. */
  #behind = false;

  static readonly #isOne = branded('RegisterFile', this.prototype, (value) => #registers in value);

  /** @internal True if it is one of this copy of the library. */
  static _is(value: unknown): value is RegisterFile {
    return RegisterFile.#isOne(value);
  }

  /**
   * Copies what it is given. Does not block.
   *
   * @throws TypeError (`ERR_INVALID_ARG_TYPE`), RangeError (`ERR_OUT_OF_RANGE`) on bad numbers, also an offset that is no multiple of the
   * width; TypeError (`ERR_INVALID_ARG_VALUE`) on an unknown kind or width, and on registers that overlap; TypeError
   * (`ERR_INVALID_ARG_TYPE`) on a callback that is no function.
   */
  constructor(registers: readonly RegisterSpec[], options?: RegisterFileOptions) {
    if (!Array.isArray(registers)) throw invalidType('registers', 'an instance of Array', registers);
    const { unlisted } = checkOptions<RegisterFileOptions>('options', options);
    const ones = oneOf('options.unlisted', unlisted, ['zeros', 'ones'], 'zeros') === 'ones';
    // Not map(): it would leave holes as they are.
    const checked = Array.from(registers, (spec: RegisterSpec, i) => checkRegister(`registers[${i}]`, spec));
    checked.sort((a, b) => a.offset - b.offset);
    for (const [index, { offset, width, onRead, onWrite }] of checked.entries()) {
      if (index + 1 < checked.length && checked[index + 1].offset < offset + width) {
        throw invalidValue('registers', 'must not overlap', `offsets ${offset} and ${checked[index + 1].offset}`);
      }
      const register = { index, offset, width, onRead, onWrite };
      this.#registers.set(offset, register);
      if (onRead !== undefined || onWrite !== undefined) this.#calling.push(register);
      this.#end = offset + width;
    }
    this._model = native.registerFile(new Float64Array(checked.flatMap(({ numbers }) => numbers)), ones);
  }

  /**
   * What the register at that offset holds, in its bytes; a bigint for 8 bytes. Has none of the effects of a read, and does
   * not wait.
   *
   * @param offset of its first byte, from the start of the region.
   * @throws TypeError (`ERR_INVALID_ARG_VALUE`) where no register begins; RangeError (`ERR_OUT_OF_RANGE`), TypeError
   * (`ERR_INVALID_ARG_TYPE`) for what is no offset at all.
   */
  get(offset: number): number | bigint {
    const { index, width } = this.#at(offset);
    native.registerValue(this._model, index, words, false);
    return valueOf(width, words[0], words[1]);
  }

  /**
   * Sets what the register at that offset holds, whatever its kind. Does not block.
   *
   * @throws what {@link get} throws; RangeError (`ERR_OUT_OF_RANGE`) for a value that does not fit, TypeError (`ERR_INVALID_ARG_TYPE`) for
   * one that is no integer, or no bigint for 8 bytes.
   */
  set(offset: number, value: number | bigint): void {
    const { index, width } = this.#at(offset);
    words.set(checkedHalves('value', width, value));
    native.registerValue(this._model, index, words, true);
  }

  /** @internal The registers with callbacks that an access is of, in the order of their offsets. */
  _calling(offset: number, width: number): CallingRegister[] {
    return this.#calling.filter((register) => register.offset < offset + width && offset < register.offset + register.width);
  }

  /** @internal True if it may be behind a region of so many bytes. */
  _check(at: string, size: number): void {
    if (this.#behind) throw invalidValue(`${at}.model`, 'must not be behind another region', this);
    if (this.#end > size) throw invalidValue(`${at}.size`, `must have room for the model's ${this.#end} bytes`, size);
  }

  /** @internal */
  _begin(): void {
    this.#behind = true;
  }

  /** @internal */
  _end(): void {
    this.#behind = false;
  }

  #at(offset: number): Register {
    const register = this.#registers.get(integer('offset', offset, 0, Number.MAX_SAFE_INTEGER));
    if (register === undefined) throw invalidValue('offset', 'must be that of a register', offset);
    return register;
  }
}

interface CheckedRegister extends CallingRegister {
  /** As native code takes it. */
  numbers: [offset: number, width: number, kind: number, low: number, high: number, asks: number];
}

function checkRegister(at: string, spec: RegisterSpec): CheckedRegister {
  const { offset, width = 4, kind, value } = requiredObject(at, spec);
  if (typeof width !== 'number') throw invalidType(`${at}.width`, 'of type number', width);
  if (![1, 2, 4, 8].includes(width)) throw invalidValue(`${at}.width`, 'must be 1, 2, 4 or 8', width);
  multipleOf(`${at}.offset`, integer(`${at}.offset`, offset, 0, Number.MAX_SAFE_INTEGER - 8), width);
  const index = REGISTER_KINDS.indexOf(oneOf(`${at}.kind`, kind, REGISTER_KINDS, 'rw'));
  const halves = checkedHalves(`${at}.value`, width, value === undefined ? (width === 8 ? 0n : 0) : value);
  const onRead = callbackOf(at, 'onRead', spec);
  const onWrite = callbackOf(at, 'onWrite', spec);
  const asks = (onRead === undefined ? 0 : ASKS_READS) | (onWrite === undefined ? 0 : ASKS_WRITES);
  return { offset, width, onRead, onWrite, numbers: [offset, width, index, ...halves, asks] };
}

/** Called as a method of what it is given in. */
function callbackOf<K extends 'onRead' | 'onWrite'>(at: string, name: K, spec: RegisterSpec): RegisterSpec[K] {
  const callback: unknown = spec[name];
  if (callback === undefined) return undefined;
  if (typeof callback !== 'function') throw invalidType(`${at}.${name}`, 'of type function', callback);
  return callback.bind(spec) as RegisterSpec[K];
}

function checkedHalves(name: string, width: number, value: number | bigint): [low: number, high: number] {
  return halvesOf(width < 8 ? integer(name, value, 0, 2 ** (8 * width) - 1) : bigintOf64Bits(name, value));
}
