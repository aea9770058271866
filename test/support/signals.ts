/** What a process does with signals. */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';

/** Whether it has a handler for the signal; it is this process, or the one whose /proc/PID/status is given. */
export function catches(signal: NodeJS.Signals, status = readFileSync('/proc/self/status', 'utf8')): boolean {
  const [, caught] = /^SigCgt:\s*([0-9a-f]+)$/m.exec(status)!;
  return ((BigInt(`0x${caught}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
}
