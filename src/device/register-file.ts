/** Registers as data sheets describe them, answered by native code. */
import { bigintOf64Bits, integer, multipleOf, oneOf, options as checkOptions, requiredObject } from '../arguments.js';
import { branded } from '../brands.js';
import { invalidType, invalidValue } from '../errors.js';
import { native, REGISTER_KINDS } from '../native.js';
import type { RegisterModel } from './ops.js';
import { halvesOf, valueOf } from './register-value.js';

/**
 * What reading and writing do: `'rw'` keeps what is written; `'ro'` ignores writes; `'w1c'` clears the bits that are written as ones,
 * `'w1s'` sets them; `'rc'` gives its value to one reader and is 0 after it; `'counter'` counts one up at each read, after it.
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
}

export interface RegisterFileOptions {
  /** What bytes read as that no register covers. Default `'zeros'`. Writes to them go nowhere. */
  unlisted?: 'zeros' | 'ones';
}

interface Register {
  index: number;
  width: number;
}

const words = new Float64Array(2);

/**
 * A model of registers in native code, for `regions: [{ kind: 'registers', model }]`: an access is answered in the thread that makes it,
 * raw ones within the fault handler, in a few microseconds and without waking the device's thread. Its own code reaches the registers
 * by {@link get} and {@link set}, which have none of the effects of an access.
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
  /** One past the last byte of a register. */
  #end = 0;
  /** Behind two regions it would have two locks, and read-modify-writes would not be indivisible. */
  #behind = false;

  static readonly #isOne = branded('RegisterFile', this.prototype, (value) => #registers in value);

  /** @internal Whether it is one of this copy of the library. */
  static _is(value: unknown): value is RegisterFile {
    return RegisterFile.#isOne(value);
  }

  /**
   * Copies what it is given. Does not block.
   *
   * @throws TypeError (`ERR_INVALID_ARG_TYPE`), RangeError (`ERR_OUT_OF_RANGE`) on bad numbers, also an offset that is no multiple of the
   * width; TypeError (`ERR_INVALID_ARG_VALUE`) on an unknown kind or width, and on registers that overlap.
   */
  constructor(registers: readonly RegisterSpec[], options?: RegisterFileOptions) {
    if (!Array.isArray(registers)) throw invalidType('registers', 'an instance of Array', registers);
    const { unlisted } = checkOptions<RegisterFileOptions>('options', options);
    const ones = oneOf('options.unlisted', unlisted, ['zeros', 'ones'], 'zeros') === 'ones';
    // Not map(): it would leave holes as they are.
    const numbers = Array.from(registers, (spec: RegisterSpec, i) => checkRegister(`registers[${i}]`, spec));
    numbers.sort(([a], [b]) => a - b);
    for (const [i, [offset, width]] of numbers.entries()) {
      if (i + 1 < numbers.length && numbers[i + 1][0] < offset + width) {
        throw invalidValue('registers', 'must not overlap', `offsets ${offset} and ${numbers[i + 1][0]}`);
      }
      this.#registers.set(offset, { index: i, width });
      this.#end = offset + width;
    }
    this._model = native.registerFile(new Float64Array(numbers.flat()), ones);
  }

  /**
   * What the register at that offset holds, in its bytes; a bigint for 8 bytes. Has none of the effects of a read, and waits for
   * nobody.
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
   * Sets what the register at that offset holds, whatever its kind. Waits for nobody.
   *
   * @throws what {@link get} throws; RangeError (`ERR_OUT_OF_RANGE`) for a value that does not fit, TypeError (`ERR_INVALID_ARG_TYPE`) for
   * one that is no integer, or no bigint for 8 bytes.
   */
  set(offset: number, value: number | bigint): void {
    const { index, width } = this.#at(offset);
    words.set(checkedHalves('value', width, value));
    native.registerValue(this._model, index, words, true);
  }

  /** @internal Whether it may be behind a region of so many bytes. */
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

function checkRegister(at: string, spec: RegisterSpec): [number, number, number, number, number] {
  const { offset, width = 4, kind, value } = requiredObject(at, spec);
  if (typeof width !== 'number') throw invalidType(`${at}.width`, 'of type number', width);
  if (![1, 2, 4, 8].includes(width)) throw invalidValue(`${at}.width`, 'must be 1, 2, 4 or 8', width);
  multipleOf(`${at}.offset`, integer(`${at}.offset`, offset, 0, Number.MAX_SAFE_INTEGER - 8), width);
  const index = REGISTER_KINDS.indexOf(oneOf(`${at}.kind`, kind, REGISTER_KINDS, 'rw'));
  return [offset, width, index, ...checkedHalves(`${at}.value`, width, value === undefined ? (width === 8 ? 0n : 0) : value)];
}

function checkedHalves(name: string, width: number, value: number | bigint): [low: number, high: number] {
  return halvesOf(width < 8 ? integer(name, value, 0, 2 ** (8 * width) - 1) : bigintOf64Bits(name, value));
}
