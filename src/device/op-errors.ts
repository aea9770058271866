/** What ops throw, and what their callers are told of it. */
import { DeviceOpError } from '../errors.js';

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).errno === 'number';
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Of a DeviceOpError: what its own constructor will say again in another thread. */
export function bareMessage(error: unknown): string {
  const cause = error instanceof DeviceOpError ? (error.cause ?? error) : error;
  return messageOf(cause) || 'failed';
}
