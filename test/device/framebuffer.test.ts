import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Device } from 'revocable-mmap/device';
import { testUnless } from '../support/conditions.js';
import { expectEndings, removals, REMOVALS, withExample } from '../support/examples.js';
import { temporaryDirectory } from '../support/temporary.js';

const WHY_NO_PAGE_FAULTS = whyNoPageFaults();

function testWithFaults(title: string, body: () => Promise<void>): void {
  testUnless(WHY_NO_PAGE_FAULTS, title, body);
}

describe('examples/devices/framebuffer', () => {
  testWithFaults('says what it is', async () => {
    const seen = await withExample('framebuffer', ({ map }) => {
      const registers = map('registers');
      registers.write32(0x00, 1); // read only
      return {
        size: map('pixels').length,
        registers: [0, 4, 8, 0xc, 0x10, 0x14, 0x18, 0x1c, 0x20].map((at) => registers.read32(at)),
      };
    });
    expect(seen).toEqual({ size: 640 * 400 * 4, registers: [640, 400, 2560, 32, 0, 0, 0, 0, 0xffffffff] });
  });

  testWithFaults('draws a page when it is touched for the first time, and no other', async () => {
    const seen = await withExample('framebuffer', async ({ device, map }) => {
      const [pixels, other] = [map('pixels'), map('pixels')];
      const word = new Uint32Array(1);
      const drawn = [];
      for (const [mapping, at] of [
        [pixels, 0],
        [pixels, 4092],
        [pixels, 249 * 4096],
        [other, 0],
      ]) {
        await mapping.readAsync(at, word);
        drawn.push([device.opCounts.fault, word[0].toString(16)]);
      }
      return drawn;
    });
    // Pixel 1023 is the 384th of the second row. The other mapping asks again, and gets what is there.
    const second = (Math.round((255 * 383) / 639) << 16) | (1 << 8) | 0x80;
    const last = (Math.round((255 * 256) / 639) << 16) | (Math.round((255 * 398) / 399) << 8) | 0x80;
    expect(seen).toEqual([
      [1, '80'],
      [1, second.toString(16)],
      [2, last.toString(16)],
      [3, '80'],
    ]);
  });

  testWithFaults('another scene: a page is drawn at its next access, and not before', async () => {
    const seen = await withExample('framebuffer', async ({ device, driver }) => {
      const screen = new driver.FramebufferDriver(device);
      const asked = () => device.opCounts.fault;
      const [gradient, first] = [await screen.pixel(320, 200), asked()];
      await screen.fill({ x: 320, y: 200, width: 1, height: 1 }, 0xffffff);
      screen.draw(1);
      const [still, dirty] = [asked() - first, screen.dirty];
      // About the middle of the picture is -0.7, within the set; its corners are far outside, and leave it in the first steps.
      return {
        gradient,
        still,
        dirty,
        scene: screen.scene,
        inside: await screen.pixel(320, 200),
        corner: await screen.pixel(0, 0),
      };
    });
    const gradient = (Math.round((255 * 320) / 639) << 16) | (Math.round((255 * 200) / 399) << 8) | 0x80;
    expect(seen).toMatchObject({ gradient, still: 0, dirty: 0, scene: 1, inside: 0 });
    expect(seen.corner).toBeGreaterThan(0);
  });

  testWithFaults('knows the pages that were painted over, each once, and anew after they were taken', async () => {
    const seen = await withExample('framebuffer', async ({ device, driver }) => {
      const screen = new driver.FramebufferDriver(device);
      await screen.picture(); // looking is not painting
      const dirty = [screen.dirty, [...(await screen.takeDirty())]];
      for (let times = 0; times < 3; times++) await screen.fill({ x: 0, y: 0, width: 8, height: 3 }, times);
      dirty.push(screen.dirty, [...(await screen.takeDirty())], screen.dirty);
      const writes = device.opCounts.pageMkwrite;
      await screen.fill({ x: 639, y: 399, width: 1, height: 1 }, 0xabcdef);
      await screen.fill({ x: 0, y: 0, width: 1, height: 1 }, 0x111111);
      dirty.push([...(await screen.takeDirty())]);
      return { dirty, writes, painted: [await screen.pixel(639, 399), await screen.pixel(0, 0), await screen.pixel(1, 0)] };
    });
    expect(seen).toEqual({ dirty: [0, [], 2, [0, 1], 0, [0, 249]], writes: 2, painted: [0xabcdef, 0x111111, 2] });
  });

  testWithFaults('the painters of two mappings are both heard of', async () => {
    const seen = await withExample('framebuffer', async ({ map, file, model }) => {
      const dirty = [];
      for (const mapping of [map('pixels'), map('pixels')]) {
        await mapping.writeAsync(5 * 4096, Uint8Array.of(1));
        dirty.push([...(await file.ioctl(model.TAKE_DIRTY))]);
      }
      return dirty;
    });
    expect(seen).toEqual([[5], [5]]);
  });

  testWithFaults('an unknown command is ENOTTY', async () => {
    const seen = await withExample('framebuffer', ({ file }) => file.ioctl(1).catch((error: { code: string }) => error.code));
    expect(seen).toBe('ENOTTY');
  });
});

describe('examples/devices/framebuffer-driver', () => {
  for (const where of ['here', 'spawned'] as const) {
    testWithFaults(`saves the picture as a PPM file, with the ops ${where}`, async () => {
      const path = join(temporaryDirectory(), 'picture.ppm');
      await withExample(
        'framebuffer',
        async ({ device, driver, input }) => {
          const screen = new driver.FramebufferDriver(device);
          await screen.fill({ x: 2, y: 0, width: 1, height: 1 }, 0x010203);
          await screen.savePpm(input);
        },
        { where, input: path, data: { width: 96, height: 64 } },
      );
      const file = readFileSync(path);
      const header = 'P6\n96 64\n255\n';
      expect(file.toString('latin1', 0, header.length)).toBe(header);
      expect(file.length).toBe(header.length + 3 * 96 * 64);
      expect([...file.subarray(header.length, header.length + 9)]).toEqual([0, 0, 0x80, 3, 0, 0x80, 1, 2, 3]);
      expect([...file.subarray(-3)]).toEqual([255, 255, 0x80]);
    });

    testWithFaults(`waits for the picture to be shown, with the ops ${where}`, async () => {
      const seen = await withExample(
        'framebuffer',
        async ({ device, driver }) => {
          const screen = new driver.FramebufferDriver(device);
          const first = await screen.nextVsync();
          const second = screen.nextVsync();
          device.raise(0); // one that was on its way when interrupts were turned off
          return [first, await second];
        },
        { where },
      );
      expect(seen[0]).toBeGreaterThanOrEqual(1);
      expect(seen[1]).toBeGreaterThan(seen[0]);
    });
  }

  for (const [from, where, rounds] of REMOVALS) {
    testWithFaults(`every call ends when it is removed from the ${from}, ops ${where}`, async () => {
      const tally = await removals('framebuffer', from, where, rounds);
      expect(tally.rounds).toBeGreaterThanOrEqual(rounds);
      expectEndings(tally);
    });
  }
});

/** Why no page-fault ops can run here; undefined when they can. */
function whyNoPageFaults(): string | undefined {
  try {
    void new Device({
      name: 'probe',
      regions: [{ size: 4096 }],
      ops: { fault: () => undefined, pageMkwrite: () => undefined },
    }).unplug();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
