/** The device that the rows of device.mts spawn: every page is the same, every register answers at once. */
import type { DeviceOptions } from 'revocable-mmap/device';

const page = new Uint8Array(4096).fill(7);

/** Never answers, and ends when no thread waits any more, so that the removal need not wait for it. */
const abandoned = (signal: AbortSignal): Promise<undefined> =>
  new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined)));

export default ({ pages, silent }: { pages: number; silent?: boolean }): DeviceOptions => ({
  name: 'bench',
  opTimeout: 60_000,
  regions: [
    { name: 'memory', size: pages * page.length },
    { name: 'registers', size: 4096, kind: 'registers' },
  ],
  ops: {
    fault: silent === true ? ({ signal }) => abandoned(signal) : () => page,
    readRegister: () => 7,
  },
});
