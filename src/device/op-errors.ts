/** What ops throw, and what their callers are told of it. */
import { DeviceOpError } from '../errors.js';

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).errno === 'number';
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** An op that nobody waits for has failed, and nobody listens to the device's faults. Anything can have been thrown. */
export function warnOfOp(device: string, op: string, error: unknown): void {
  const detail = error instanceof Error ? error.stack : undefined;
  process.emitWarning(error instanceof DeviceOpError ? error.message : `${device}: ${op}: ${bareMessage(error)}`, {
    code: 'REVOCABLE_MMAP_DEVICE_OP',
    type: 'RevocableMmapWarning',
    ...(detail === undefined ? {} : { detail }),
  });
}

/** Of a DeviceOpError: what its own constructor will say again in another thread. */
export function bareMessage(error: unknown): string {
  const cause = error instanceof DeviceOpError ? (error.cause ?? error) : error;
  return messageOf(cause) || 'failed';
}
