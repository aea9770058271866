import { setTimeout as sleep } from 'node:timers/promises';
import { Device } from 'revocable-mmap/device';
import { colour, draw, SIDE } from './device-model.mjs';
import { claim, say } from './story.mjs';

const PAGE = 4096;
const PAGES = (SIDE * SIDE * 4) / PAGE;

/** Its ops run in this thread: a call that waits for a page must let this thread answer. */
async function drawnHere() {
  const device = new Device({
    name: 'canvas',
    regions: [{ size: PAGES * PAGE }],
    ops: { fault: (page) => draw(page.offset) },
  });
  const mapping = device.open().map({ access: 'r' });
  const before = device.opCounts.fault;
  const target = new Uint32Array(2);
  let right = 0;
  // Eight pages, each of them three times.
  for (let n = 0; n < 24; n++) {
    const line = 16 * (n % 8);
    await mapping.readAsync(line * SIDE * 4, target);
    if (target[0] === colour(0, line) && target[1] === colour(1, line)) right++;
  }
  const asked = device.opCounts.fault;
  device.zap();
  await mapping.readAsync(0, target);
  const afterZap = device.opCounts.fault;
  say.line(
    `${PAGES} pages mapped: ${before} calls of its fault op. 8 of them read 24 times: ${asked}. Zapped, one read again: ${afterZap}`,
  );
  claim('a page of a device is made at its first touch, once', before === 0 && asked === 8 && afterZap === 9);
  claim('what is read is what the fault op drew', right === 24);
  await device.unplug();
}

/** Its ops run in a worker: this thread may wait for them, in a plain load or for a register. */
async function drawnElsewhere() {
  const device = await Device.spawn(new URL('./device-model.mjs', import.meta.url));
  const file = device.open();
  const pixels = file.map({ access: 'r' });
  const registers = file.map({ region: 'registers' });
  const raw = new Uint32Array(pixels.buffer);
  let wrong = 0;
  for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIDE; x++) if (raw[y * SIDE + x] !== colour(x, y)) wrong++;
  const drawn = await file.ioctl(0);
  const frames = [registers.read32(0), registers.read32(0), registers.read32(0)];
  say.line(
    `the same in a worker (Device.spawn), read by plain typed-array loads: ${drawn} fault ops for ${PAGES} pages, ${wrong} pixels wrong`,
  );
  say.line(`its register counts how often it is read: ${frames.join(', ')}`);
  claim('a model in a worker supplied every page exactly once', drawn === PAGES && wrong === 0);
  claim('every read of a register reached the model', frames.join() === '1,2,3');
  await device.unplug();
  await sleep(0);
  claim('after its removal the screen reads zeros', raw[SIDE + 1] === 0);
}

export async function device() {
  await drawnHere();
  await drawnElsewhere();
}
