/** Accesses to a device's registers that JavaScript answers: checked and raw ones, of this thread and of others. */
import { answerText, DeviceOpError } from '../errors.js';
import type { RegisterPort } from '../memory/backing-provider.js';
import { REGISTER_ACCESS, TRACE_ACCESS, TRACE_FLAGS } from '../native/enums.js';
import { native } from '../native/load.js';
import { status } from '../native/shared-state.js';
import type { DeviceRegion } from './device-region.js';
import type { OpCalls, OpOwner } from './op-calls.js';
import type { RegisterFile } from './register-file.js';
import { halvesOf, partOf, truncated, valueOf } from './register-value.js';

/** What a raw access does. */
const READS = 1;
const WRITES = 2;

/** An access, to and from native code. */
const asked = new Float64Array(REGISTER_ACCESS.size);
const traced = new Float64Array(TRACE_ACCESS.size);

interface FileAccess {
  write: boolean;
  offset: number;
  width: number;
  value: number | bigint;
}

interface RegisterOwner extends OpOwner {
  readonly _id: number;
  readonly regions: readonly DeviceRegion[];
  readonly state: string;
  readonly _removing: boolean;
}

export class RegisterRequests {
  readonly #thread = native.threadId();
  /** Index of the status word that is not 0 while a trace records. */
  readonly #traceWord: number;

  constructor(
    readonly device: RegisterOwner,
    readonly calls: OpCalls,
  ) {
    this.#traceWord = native.traceWord(device._id);
  }

  /** How this thread's checked accesses reach the registers of a region. */
  port(region: number, raw: boolean): RegisterPort {
    return {
      raw,
      gone: () => this.device.state === 'removed',
      // An op may remove the device: what it answers, or throws, is discarded then, as for callers in other threads.
      read: (offset, width) => {
        if (this.device.state === 'removed') return undefined;
        try {
          const value = this.read(this.#thread, region, offset, width);
          if (!this.device._removing) return value;
        } catch (error) {
          if (!this.device._removing) throw error;
        }
        return undefined;
      },
      write: (offset, width, value) => {
        if (this.device.state === 'removed') return false;
        try {
          this.write(this.#thread, region, offset, width, value);
        } catch (error) {
          if (!this.device._removing) throw error;
        }
        return !this.device._removing;
      },
    };
  }

  /** For `thread`, and for the traces: what the model answers, when it has. `way`: 0, or TRACE_FLAGS.raw. */
  read(thread: number, region: number, offset: number, width: number, way = 0): number | bigint {
    try {
      const value = this.#ask(region, offset, width);
      if (status[this.#traceWord] !== 0) this.#trace(thread, region, offset, width, way, value);
      return value;
    } catch (error) {
      if (status[this.#traceWord] !== 0) this.#trace(thread, region, offset, width, way | TRACE_FLAGS.failed, 0);
      throw error;
    }
  }

  #ask(region: number, offset: number, width: number): number | bigint {
    const { _file: file } = this.device.regions[region];
    if (file !== undefined) return this.#readFile(file, region, offset, width);
    return this.#valueOf(
      width,
      this.calls.sync('readRegister', () => this.calls.need('readRegister')(offset, width, region)),
    );
  }

  #valueOf(width: number, value: unknown): number | bigint {
    if (typeof value === 'bigint' || Number.isInteger(value)) return truncated(width, value as number | bigint);
    throw new DeviceOpError(this.device.name, 'readRegister', `answered ${answerText(value)}, not an integer or a bigint`);
  }

  /** An access to a register with a callback. */
  #readFile(file: RegisterFile, region: number, offset: number, width: number): number | bigint {
    for (const { onRead, ...register } of file._calling(offset, width)) {
      if (onRead === undefined) continue;
      const answer: unknown = this.calls.guarded('readRegister', () => onRead(file.get(register.offset)));
      if (answer !== undefined) file.set(register.offset, this.#valueOf(register.width, answer));
    }
    this.#accessFile(file, region, { write: false, offset, width, value: 0 });
    return valueOf(width, asked[REGISTER_ACCESS.low], asked[REGISTER_ACCESS.high]);
  }

  #writeFile(file: RegisterFile, region: number, offset: number, width: number, value: number | bigint): void {
    this.#accessFile(file, region, { write: true, offset, width, value });
    for (const { onWrite, ...register } of file._calling(offset, width)) {
      if (onWrite === undefined) continue;
      const written = partOf(offset, width, value, register.offset, register.width);
      this.calls.guarded('writeRegister', () => onWrite(file.get(register.offset), written));
    }
  }

  /** What native code does for the access; the value that it reads is in `asked`. */
  #accessFile(file: RegisterFile, region: number, { write, offset, width, value }: FileAccess): void {
    const [low, high] = halvesOf(value);
    asked[REGISTER_ACCESS.write] = Number(write);
    asked[REGISTER_ACCESS.offset] = offset;
    asked[REGISTER_ACCESS.width] = width;
    asked[REGISTER_ACCESS.low] = low;
    asked[REGISTER_ACCESS.high] = high;
    native.registerAccessAsked(file._model, this.device.regions[region].object._id, asked);
  }

  write(thread: number, region: number, offset: number, width: number, value: number | bigint, way = 0): void {
    let flags = way | TRACE_FLAGS.write | TRACE_FLAGS.failed;
    try {
      const { _file: file } = this.device.regions[region];
      if (file !== undefined) this.#writeFile(file, region, offset, width, value);
      else this.calls.sync('writeRegister', () => this.calls.need('writeRegister')(offset, width, value, region));
      flags = way | TRACE_FLAGS.write;
    } finally {
      if (status[this.#traceWord] !== 0) this.#trace(thread, region, offset, width, flags, value);
    }
  }

  #trace(thread: number, region: number, offset: number, width: number, flags: number, value: number | bigint): void {
    const [low, high] = halvesOf(value);
    traced[TRACE_ACCESS.thread] = thread;
    traced[TRACE_ACCESS.region] = region;
    traced[TRACE_ACCESS.offset] = offset;
    traced[TRACE_ACCESS.width] = width;
    traced[TRACE_ACCESS.flags] = flags;
    traced[TRACE_ACCESS.low] = low;
    traced[TRACE_ACCESS.high] = high;
    native.traceAccess(this.device._id, traced);
  }

  /**
   * A raw access that a thread waits for in the fault handler. One that reads and writes does both in this turn: nothing comes between.
   */
  answerRaw(token: number, [region, offset, width, what, low, high, thread]: Float64Array): void {
    const reads = (what & READS) !== 0;
    try {
      const value = reads ? this.read(thread, region, offset, width, TRACE_FLAGS.raw) : 0;
      const read = halvesOf(value);
      const put = new Float64Array([low, high]);
      const combines = reads && (what & WRITES) !== 0;
      const puts = combines ? native.combineAccess(this.device._id, token, read[0], read[1], put) : !reads;
      if (puts) this.write(thread, region, offset, width, valueOf(width, put[0], put[1]), TRACE_FLAGS.raw);
      native.answerAccess(this.device._id, token, false, read[0], read[1]);
    } catch (error) {
      native.answerAccess(this.device._id, token, true, 0, 0);
      this.device._opFailed({ op: reads ? 'readRegister' : 'writeRegister', cause: 'failed', error, region });
    }
  }
}
