/** Pages poisoned by userfaultfd: SIGBUS at a place where the file has a page. */
import { closeSync } from 'node:fs';
import { kernel } from './kernel-calls.js';

const O_CLOEXEC_NONBLOCK = 0o2004000;
const UFFDIO_API = 0xc018aa3fn;
const UFFDIO_REGISTER = 0xc020aa00n;
const UFFDIO_UNREGISTER = 0x8010aa01n;
const UFFDIO_POISON = 0xc020aa08n;
const MODE_MISSING = 1n;
const UFFD_FEATURE_POISON = 1n << 14n;

function words(...values: bigint[]): Uint8Array {
  return new Uint8Array(new BigUint64Array(values).buffer);
}

function poisonFd(): number {
  const fd = kernel.userfaultfd(O_CLOEXEC_NONBLOCK);
  if (fd < 0) return fd;
  const answer = kernel.ioctl(fd, UFFDIO_API, words(0xaan, UFFD_FEATURE_POISON, 0n));
  if (answer < 0) closeSync(fd);
  return answer < 0 ? answer : fd;
}

/** Why no page can be poisoned here; undefined when one can. */
export function whyNoPoison(): string | undefined {
  const fd = poisonFd();
  if (fd < 0) return `userfaultfd with UFFDIO_POISON gives ${kernel.errorName(fd)}`;
  closeSync(fd);
  return undefined;
}

/** Poisons a page of this process's page tables. It stays so when the descriptor is closed. */
export function poison(address: bigint): void {
  const fd = poisonFd();
  const page = BigInt(kernel.PAGE);
  const answers = [
    kernel.ioctl(fd, UFFDIO_REGISTER, words(address, page, MODE_MISSING, 0n)),
    kernel.madvise(address, kernel.PAGE, kernel.MADV.DONTNEED), // the page must not be present
    kernel.ioctl(fd, UFFDIO_POISON, words(address, page, 0n, 0n)),
    kernel.ioctl(fd, UFFDIO_UNREGISTER, words(address, page)),
  ];
  closeSync(fd);
  if (answers.some((answer) => answer !== 0)) throw new Error(`UFFDIO_POISON: ${answers.join(', ')}`);
}
