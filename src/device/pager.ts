/** The thread that supplies pages, and why there may be none. */
import { systemError } from '../errors.js';
import { native } from '../native/load.js';

const WITHOUT_USERFAULTFD: Record<string, string> = {
  EPERM: 'a sandbox (seccomp) forbids userfaultfd(2): allow it, or give the device no fault and pageMkwrite ops',
  ENOSYS: 'this kernel has no userfaultfd(2), or a sandbox hides it: give the device no fault and pageMkwrite ops',
  EOPNOTSUPP: 'this kernel has no minor faults on shared memory: Linux 5.14 or newer is needed for fault ops',
  ENOTSUP: 'this kernel cannot write-protect shared memory: Linux 6.4 or newer is needed for a pageMkwrite op',
};

export function startPager(writeFaults: boolean, asked: boolean): void {
  const failure = native.pagerStart(writeFaults, writeFaults || asked);
  if (failure === null) return;
  // ENOTSUP and EOPNOTSUPP are one number: what was asked for tells which.
  const plain = systemError(failure);
  const code = plain.code === 'ENOTSUP' || plain.code === 'EOPNOTSUPP' ? (writeFaults ? 'ENOTSUP' : 'EOPNOTSUPP') : plain.code!;
  const hint = WITHOUT_USERFAULTFD[code];
  throw systemError(failure, hint === undefined ? {} : { hint });
}
