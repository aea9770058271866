// What the drivers of examples/devices do while their device is removed. Each job answers with the promises of all that was under way.
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EduDriver } from '../../../examples/devices/edu-driver.mjs';
import { FramebufferDriver } from '../../../examples/devices/framebuffer-driver.mjs';
import { NicDriver } from '../../../examples/devices/nic-driver.mjs';

export const JOBS = {
  edu: {
    data: {},
    Driver: EduDriver,
    options: undefined,
    work: (driver) => [eduJob(driver), driver.factorial(6).then((value) => assert.equal(value, 720))],
    calls: [(d) => d.identify(), (d) => d.isAlive(), (d) => d.factorial(3), (d) => d.dmaRoundTrip(new Uint8Array(4))],
  },
  nic: {
    data: { memorySize: 32768 },
    Driver: NicDriver,
    options: { descriptors: 3 },
    work: (driver) => [sendFrames(driver), receiveFrames(driver)],
    calls: [(d) => d.send(new Uint8Array(60)), (d) => d.receive(), (d) => d.room, (d) => d.statistics],
  },
  framebuffer: {
    data: { width: 64, height: 32 },
    Driver: FramebufferDriver,
    options: undefined,
    work: (driver) => [framebufferJob(driver)],
    calls: [
      (d) => d.pixel(0, 0),
      (d) => d.fill({ x: 0, y: 0, width: 1, height: 1 }, 0),
      (d) => d.takeDirty(),
      (d) => d.nextVsync(),
      (d) => d.draw(1),
    ],
  },
};

async function eduJob(driver) {
  assert.equal(driver.identify().major, 1);
  assert.equal(driver.isAlive(), true);
  assert.equal(await driver.factorial(5), 120);
  const bytes = Uint8Array.from({ length: 3000 }, (_, i) => i);
  assert.deepEqual(await driver.dmaRoundTrip(bytes), bytes);
}

const FRAMES = 5;

async function sendFrames(driver) {
  for (let i = 0; i < FRAMES; i++) await driver.send(new Uint8Array(60 + i).fill(i));
}

/** A frame that comes while none can be received is dropped: the driver gives back each before it takes the next. */
async function receiveFrames(driver) {
  for (let i = 0, last = -1; i < 2; i++) {
    const frame = await driver.receive();
    assert.ok(frame[0] > last && frame.length === 60 + frame[0]);
    last = frame[0];
  }
}

async function framebufferJob(driver) {
  assert.equal(await driver.pixel(0, 0), 0x80);
  await driver.fill({ x: 1, y: 14, width: 8, height: 4 }, 0x123456);
  assert.deepEqual([...(await driver.takeDirty())], [0, 1]);
  assert.equal(await driver.pixel(1, 17), 0x123456);
  driver.draw(1);
  await driver.nextVsync();
  const path = join(tmpdir(), `revocable-mmap-${process.pid}.ppm`);
  await driver.savePpm(path).finally(() => rm(path, { force: true }));
}
