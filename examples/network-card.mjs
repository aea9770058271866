// A network card with descriptor rings, whose plug loops back: node examples/network-card.mjs
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Device } from 'revocable-mmap/device';
import { NicDriver } from './devices/nic-driver.mjs';

const device = await Device.spawn(new URL('./devices/nic.mjs', import.meta.url));
const driver = new NicDriver(device, { descriptors: 4 });

for (const text of ['first', 'second', 'third']) {
  await driver.send(Buffer.from(text));
  console.log(`sent ${text}, received ${Buffer.from(await driver.receive())}`);
}
const { sent, received, dropped } = driver.statistics;
console.log(`${sent} sent, ${received} received, ${dropped} dropped`);

const nextFrame = driver.receive().catch((error) => error.code);
await nextTurn(); // the driver waits
await device.unplug();
console.log(`pulled out while a frame is waited for: ${await nextFrame}`);
