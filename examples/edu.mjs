// QEMU's card for learning to write drivers, its driver, and its removal: node examples/edu.mjs
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Device } from 'revocable-mmap/device';
import { EduDriver } from './devices/edu-driver.mjs';

const url = new URL('./devices/edu.mjs', import.meta.url);
const device = await Device.spawn(url);

for (const registers of ['checked', 'raw', 'webassembly']) {
  const driver = new EduDriver(device, { registers });
  const { major, minor } = driver.identify();
  console.log(`${registers}: edu ${major}.${minor}, 10! = ${await driver.factorial(10)}`);
  driver.close();
}

await device.unplug();

const slow = await Device.spawn(url, { data: { delay: 60_000 } });
const waiting = new EduDriver(slow).factorial(12).catch((error) => error.code);
await nextTurn(); // it has begun to compute
await slow.unplug();
console.log(`pulled out while it computes: ${await waiting}`);
