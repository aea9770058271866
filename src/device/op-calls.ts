/** Calls of a device's ops: counted, and with one kind of error for whatever an op throws. */
import { osConstants } from '../os-constants.js';
import { answerText, DeviceOpError, systemError } from '../errors.js';
import { bareMessage, hasCode, isA, isSystemError, syscallOf } from './device-errors.js';
import type { DeviceOps } from './device-ops.js';
import type { DeviceFaultInfo } from './device-types.js';
import { newOpCounts, OP_INDEX } from './op-counts.js';
import { isThenable, RunningOp, RunningOps } from './running-ops.js';

/** The device whose ops are called. */
export interface OpOwner {
  readonly name: string;
  _throwIfGone(syscall: string): void;
  /** An op without a caller failed: a `'fault'` event. */
  _opFailed(info: DeviceFaultInfo): void;
}

export class OpCalls {
  readonly running = new RunningOps();
  /** How often each op has been called, by OP_INDEX. */
  readonly counts = newOpCounts();

  constructor(
    readonly device: OpOwner,
    /** The user's object, on which ops are called. */
    readonly ops: DeviceOps,
  ) {}

  /** The op, bound. A device without it answers as a driver without that method does. */
  need<K extends keyof DeviceOps>(name: K): NonNullable<DeviceOps[K]> {
    const op = this.ops[name];
    if (op === undefined) throw systemError({ errno: -osConstants.errno[name === 'ioctl' ? 'ENOTTY' : 'EINVAL'], syscall: name });
    return op.bind(this.ops) as NonNullable<DeviceOps[K]>;
  }

  count(name: keyof DeviceOps): void {
    if (this.ops[name] !== undefined) ++this.counts[OP_INDEX[name]];
  }

  sync<T>(name: keyof DeviceOps, call: () => T): T {
    this.count(name);
    return this.guarded(name, call);
  }

  /** What is thrown is the error of that op. */
  guarded<T>(name: keyof DeviceOps, call: () => T): T {
    try {
      return this.atOnce(name, call());
    } catch (error) {
      throw this.error(name, error);
    }
  }

  /** A promise has no waiter here, and its rejection no handler: that would end the process. */
  atOnce<T>(name: keyof DeviceOps, answer: T): T {
    if (!isThenable(answer)) return answer;
    Promise.resolve(answer).catch(() => undefined);
    throw new DeviceOpError(this.device.name, name, 'must not be asynchronous');
  }

  /** An op without a caller. */
  quietly(name: keyof DeviceOps, call: () => void): void {
    try {
      this.sync(name, call);
    } catch (error) {
      this.device._opFailed({ op: name, cause: 'failed', error });
    }
  }

  async async<T>(
    name: 'read' | 'write' | 'ioctl',
    caller: AbortSignal,
    call: (context: { signal: AbortSignal }) => T | Promise<T>,
  ): Promise<T> {
    this.device._throwIfGone(name);
    const op = new RunningOp(name, -1, 0);
    const stop = (): void => op.abort(caller.reason);
    caller.addEventListener('abort', stop, { once: true });
    this.count(name);
    try {
      return await this.running.run(op, () => call({ signal: op.signal }));
    } catch (error) {
      throw this.error(name, error);
    } finally {
      caller.removeEventListener('abort', stop);
    }
  }

  /** A read or a write of so many bytes: the op answers how many it has done. */
  async transfer(
    name: 'read' | 'write',
    bytes: number,
    caller: AbortSignal,
    call: (context: { signal: AbortSignal }) => number | Promise<number>,
  ): Promise<number> {
    return this.asInteger(name, await this.async(name, caller, call), bytes);
  }

  asInteger(name: keyof DeviceOps, answer: unknown, most: number): number {
    if (typeof answer === 'number' && Number.isInteger(answer) && answer >= 0 && answer <= most) return answer;
    throw new DeviceOpError(this.device.name, name, `answered ${answerText(answer)}, not an integer from 0 to ${most}`);
  }

  /** System errors go to the caller as they are, but for one that is no more than a number. */
  error(name: string, error: unknown): Error {
    if (isA(error, DeviceOpError)) return error;
    if (isSystemError(error)) {
      return hasCode(error) ? error : systemError({ errno: error.errno, syscall: syscallOf(error, name) }, { cause: error });
    }
    return new DeviceOpError(this.device.name, name, bareMessage(error), 'ERR_DEVICE_OP_FAILED', error);
  }
}
