/** Calling a device's ops from a thread where they do not run: the caller blocks until the owner answers, or the device is gone. */
import { DeviceOpError, systemError } from '../errors.js';
import { CALL_ANSWER, CALL_NUMBERS, CALL_RESULTS } from '../native/enums.js';
import { native } from '../native/load.js';
import type { RegisterPort } from '../memory/backing-provider.js';
import { halvesOf, valueOf } from './register-value.js';

/** What can be called that way. The seven numbers of a call are the op, its arguments, and last the thread that calls. */
export const CALLS = ['readRegister', 'writeRegister', 'open', 'release', 'mmap', 'unmap'] as const;
export type CallName = (typeof CALLS)[number];

/** Calls that the device's thread makes good when it has time, also for a caller that has given up. */
const GIVES_BACK: readonly CallName[] = ['release', 'unmap'];

/** Index of the thread. */
const CALLER = CALL_NUMBERS - 1;

/** How long a caller sleeps before it looks whether it has been terminated. */
const SLICE_MS = 50;

const numbers = new Float64Array(CALL_NUMBERS);
const thread = native.threadId();

/** The answer's low and high 32 bits; undefined when the device is gone, or goes meanwhile. */
export function callElsewhere(device: number, name: string, op: CallName, ...values: number[]): [number, number] | undefined {
  numbers.fill(0);
  numbers[0] = CALLS.indexOf(op);
  values.forEach((value, i) => (numbers[i + 1] = value));
  numbers[CALLER] = thread;
  const token = native.deviceCall(device, numbers);
  if (token === 0) return undefined;
  let message: string;
  const end = performance.now() + native.deviceLimit(device);
  try {
    while (!native.deviceCallWait(token, SLICE_MS) && performance.now() <= end);
  } finally {
    message = native.deviceCallEnd(token, numbers, !GIVES_BACK.includes(op));
  }
  const errno = numbers[CALL_ANSWER.errno];
  switch (CALL_RESULTS[numbers[CALL_ANSWER.result]]) {
    case 'pending':
      throw new DeviceOpError(name, op, 'did not answer in time', 'ERR_DEVICE_OP_TIMEOUT');
    case 'gone':
      return undefined;
    case 'done':
      if (errno !== 0) throw systemError({ errno: -errno, syscall: op });
      if (message !== '') throw new DeviceOpError(name, op, message);
      return [numbers[CALL_ANSWER.low], numbers[CALL_ANSWER.high]];
  }
}

function isGone(device: number): boolean {
  return native.deviceState(device) !== 0;
}

/** A model in native code answers in whichever thread the access is made. `asked` answers for registers that call JavaScript. */
export function registersInNativeCode(
  device: number,
  objectId: number,
  raw: boolean,
  asked: RegisterPort | undefined,
): RegisterPort {
  return {
    raw,
    gone: () => isGone(device),
    read: (offset, width) => {
      const answered = native.registerAccess(objectId, false, offset, width, numbers);
      if (answered === null) return asked!.read(offset, width);
      return answered ? valueOf(width, numbers[0], numbers[1]) : undefined;
    },
    write: (offset, width, value) => {
      numbers.set(halvesOf(value));
      return native.registerAccess(objectId, true, offset, width, numbers) ?? asked!.write(offset, width, value);
    },
  };
}

export function registersFromElsewhere(device: number, region: number, raw: boolean): RegisterPort {
  const name = native.deviceName(device);
  return {
    raw,
    gone: () => isGone(device),
    read: (offset, width) => {
      const value = callElsewhere(device, name, 'readRegister', region, offset, width);
      if (value === undefined) return undefined;
      return valueOf(width, value[0], value[1]);
    },
    write: (offset, width, value) => {
      return callElsewhere(device, name, 'writeRegister', region, offset, width, ...halvesOf(value)) !== undefined;
    },
  };
}
