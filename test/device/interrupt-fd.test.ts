import { closeSync, fstatSync, readSync } from 'node:fs';
import { Device, type DeviceFile } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runInChild } from '../support/child.js';
import { thrownBy } from '../support/thrown.js';

const devices: Device[] = [];
function opened(): { device: Device; file: DeviceFile; calls: string[] } {
  const calls: string[] = [];
  const release = (): void => void calls.push('release');
  const device = new Device({ name: 'tested', regions: [{ size: 4096 }], ops: { release } });
  devices.push(device);
  const file = device.open();
  file.on('close', () => calls.push('close'));
  return { device, file, calls };
}
afterEach(async () => {
  await Promise.all(devices.splice(0).map((made) => made.unplug()));
});

/** The closed ones of these. */
const closed = (fds: number[]): number[] =>
  fds.filter((fd) => {
    try {
      fstatSync(fd);
      return false;
    } catch {
      return true;
    }
  });

test('it counts the interrupts of its vector, and is closed with the file', () => {
  const { device, file } = opened();
  const fds = [0, 1].map((vector) => file.interruptFd(vector));
  for (let i = 0; i < 3; i++) device.raise(1);
  const count = Buffer.alloc(8);
  expect(readSync(fds[1], count)).toBe(8);
  expect(count.readBigUInt64LE()).toBe(3n);
  expect(thrownBy(() => readSync(fds[0], count)).code).toBe('EAGAIN');
  file.close();
  expect(closed(fds)).toEqual(fds);
});

describe('its user has closed it already', () => {
  test.each(['live', 'gone'])('the file closes the others, and is released: its device is %s', async (state) => {
    const { device, file, calls } = opened();
    const fds = [0, 1, 2].map((vector) => file.interruptFd(vector));
    if (state === 'gone') await device.unplug();
    // In one turn: no other descriptor gets their numbers.
    closeSync(fds[0]);
    closeSync(fds[1]);
    device.raise(0);
    file.close();
    expect(closed(fds)).toEqual(fds);
    file.close();
    await barrier();
    expect(calls).toEqual(['release', 'close']);
  });
});

test('of files that were never closed, they are closed when the file is collected: not before the device is gone', async () => {
  const { status, stderr, value } = await runInChild(
    async ({ Device }, require) => {
      const { readdirSync } = require('node:fs') as typeof import('node:fs');
      const open = (): number => readdirSync('/proc/self/fd').length;
      const collect = async (): Promise<void> => {
        for (let i = 0; i < 20; i++) {
          globalThis.gc!();
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      const useOne = async (files: number): Promise<number> => {
        const device = new Device({ name: 'tested', regions: [{ size: 4096 }] });
        const before = open();
        for (let i = 0; i < files; i++) for (const vector of [0, 1]) device.open().interruptFd(vector);
        await collect();
        const live = open() - before;
        await device.unplug();
        return live;
      };
      await useOne(1); // what the library itself needs is there from now on
      await collect();
      const before = open();
      const live = await useOne(10);
      for (let i = 0; i < 100 && open() > before; i++) await collect();
      return [live, open() - before];
    },
    { nodeArgs: ['--expose-gc'] },
  );
  expect({ status, stderr, value }).toEqual({ status: 0, stderr: '', value: [20, 0] });
});
