import { expectEndings, RAW_REMOVALS, removals, REMOVALS, withExample } from '../support/examples.js';

describe('examples/devices/nic', () => {
  test('a frame that is sent is received: descriptors, heads, counters, causes, interrupts', async () => {
    const seen = await withExample('nic', async ({ file, helpers }) => {
      const card = helpers.byHand(file);
      const interrupts = file.interrupts();
      card.memory.write(0x800, Uint8Array.of(1, 2, 3, 4, 5));
      card.describe('send', [[0x800, 5]]);
      card.describe('receive', [[0x1000, 64]]);
      card.enable();
      card.ring();
      await interrupts.next();
      await interrupts.next();
      const frame = new Uint8Array(6);
      card.memory.read(0x1000, frame);
      const cause = card.registers.read32(0x08);
      card.registers.write32(0x08, 2);
      return {
        frame: [...frame],
        flags: [card.flags('send', 0), card.flags('receive', 0)],
        length: card.memory.read32(0x404),
        heads: card.heads(),
        counters: card.counters(),
        causes: [cause, card.registers.read32(0x08)],
        status: card.registers.read32(0x04),
      };
    });
    expect(seen).toEqual({
      frame: [1, 2, 3, 4, 5, 0],
      flags: [1, 1],
      length: 5,
      heads: [1, 1],
      counters: [1, 1, 0],
      causes: [3, 1],
      status: 1,
    });
  });

  test('nothing is sent before the card is enabled, nor before the doorbell is rung', async () => {
    const seen = await withExample('nic', async ({ file, helpers }) => {
      const card = helpers.byHand(file);
      const interrupts = file.interrupts();
      const turns = async () => {
        for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
      };
      card.describe('send', [[0x800, 60]]);
      card.ring();
      await turns();
      const sent = [card.counters()[0]];
      card.enable();
      await turns();
      sent.push(card.counters()[0]);
      card.ring();
      await interrupts.next();
      return [...sent, card.counters()[0]];
    });
    expect(seen).toEqual([0, 0, 1]);
  });

  test.each([
    ['an address outside the memory', 0x7fff_fff0, 60],
    ['an address whose frame would end outside', 256 * 1024 - 59, 60],
    ['no bytes', 0x800, 0],
    ['too many bytes', 0x800, 1519],
    ['more bytes than 32 bits hold after the address', 0xffff_fff0, 0xffff_fff0],
  ])('a descriptor to send with %s is reported, and the next one is sent', async (_, ...wrong) => {
    const seen = await withExample(
      'nic',
      async ({ file, helpers, input, until }) => {
        const card = helpers.byHand(file);
        card.describe('send', [input, [0x800, 60]]);
        card.enable();
        card.ring();
        await until(() => card.heads()[0] === 2);
        const status = card.registers.read32(0x04);
        card.registers.write32(0x04, 0x100);
        return {
          status: [status, card.registers.read32(0x04)].map((value) => value & 0x101),
          flags: [card.flags('send', 0), card.flags('send', 1)],
          sent: card.counters()[0],
          error: card.registers.read32(0x08) & 4,
        };
      },
      { input: wrong },
    );
    expect(seen).toEqual({ status: [0x101, 1], flags: [3, 1], sent: 1, error: 4 });
  });

  test.each([
    ['the memory', 0x1000_0000, 64],
    ['the frame', 0x1000, 59],
  ])('a descriptor to receive into that does not fit %s is reported, and the frame dropped', async (_, ...wrong) => {
    const seen = await withExample(
      'nic',
      async ({ file, helpers, input, until }) => {
        const card = helpers.byHand(file);
        card.describe('send', Array(2).fill([0x800, 60]));
        card.describe('receive', [input, [0x1000, 60]]);
        card.enable();
        card.ring();
        await until(() => card.heads()[0] === 2);
        const flags = [card.flags('receive', 0), card.flags('receive', 1)];
        return { status: card.registers.read32(0x04), flags, counters: card.counters() };
      },
      { input: wrong },
    );
    expect(seen).toEqual({ status: 0x101, flags: [3, 1], counters: [2, 1, 1] });
  });

  test('a ring that is too short, not aligned, outside the memory, or has its tail outside is reported, and nothing done', async () => {
    const seen = await withExample('nic', async ({ map, until }) => {
      const registers = map('registers');
      registers.write32(0x00, 1);
      const results = [];
      for (const [base, count, tail] of [
        [0, 0, 0],
        [0, 1, 0],
        [8, 4, 1],
        [256 * 1024 - 48, 4, 1],
        [0xffff_fff0, 0xffff_ffff, 1],
        [0, 4, 4],
        [0, 4, 0xffff_ffff],
      ]) {
        registers.write32(0x40, base);
        registers.write32(0x44, count);
        registers.write32(0x4c, tail);
        registers.write32(0x0c, 1);
        await until(() => (registers.read32(0x04) & 0x200) !== 0);
        registers.write32(0x04, 0x200);
        results.push([registers.read32(0x48), registers.read32(0x10), registers.read32(0x04)]);
      }
      return results;
    });
    expect(seen).toEqual(Array.from({ length: 7 }, () => [0, 0, 1]));
  });

  test('heads cannot be written; reset forgets everything', async () => {
    const seen = await withExample('nic', ({ map }) => {
      const registers = map('registers');
      for (const at of [0x40, 0x44, 0x48, 0x4c, 0x60, 0x64, 0x68, 0x6c]) registers.write32(at, 16);
      const all = () => [0x00, 0x40, 0x44, 0x48, 0x4c, 0x60, 0x64, 0x68, 0x6c].map((at) => registers.read32(at));
      registers.write32(0x00, 1);
      const before = all();
      registers.write32(0x00, 2);
      return { before, after: all(), narrow: registers.read8(0x40), nowhere: registers.read32(0x50) };
    });
    expect(seen.before).toEqual([1, 16, 16, 0, 16, 16, 16, 0, 16]);
    expect(seen.after).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect([seen.narrow, seen.nowhere]).toEqual([0xff, 0xffffffff]);
  });
});

describe('examples/devices/nic-driver', () => {
  test.each([
    ['here', 'checked'],
    ['spawned', 'checked'],
    ['spawned', 'raw'],
    ['spawned', 'webassembly'],
  ] as const)(
    '500 frames go round rings of four, in order and whole, with the ops %s and %s registers',
    async (where, registers) => {
      const seen = await withExample(
        'nic',
        async ({ device, driver, input }) => {
          const nic = new driver.NicDriver(device, { descriptors: 4, registers: input });
          let wrong = 0;
          for (let i = 0; i < 500; i++) {
            const frame = Uint8Array.from({ length: 1 + ((i * 37) % 1518) }, (_, k) => i + k);
            const [received] = await Promise.all([nic.receive(), nic.send(frame)]);
            if (Buffer.compare(received, frame) !== 0) wrong++;
          }
          return { wrong, room: nic.room, ...nic.statistics };
        },
        { where, input: registers },
      );
      expect(seen).toEqual({ wrong: 0, room: 3, sent: 500, received: 500, dropped: 0, badDescriptor: false, badRing: false });
    },
  );

  test("the card sees the same, line for line, whether registers are checked, raw or a WebAssembly program's", async () => {
    const checked = await traceOfFrames('checked');
    // Of a frame: the head, the tail, the doorbell; the tail of the ring to receive by.
    expect(checked.split('\n').slice(7, 11)).toEqual([
      'R 4 registers+0x0048 0x00000000',
      'W 4 registers+0x004c 0x00000001',
      'W 4 registers+0x000c 0x00000001',
      'W 4 registers+0x006c 0x00000000',
    ]);
    expect(checked.split('\n')).toHaveLength(7 + 4 * 10 + 5);
    expect(await traceOfFrames('raw')).toBe(checked);
    expect(await traceOfFrames('webassembly')).toBe(checked);
  });

  test('a full ring makes senders wait, and lets none of their frames be lost', async () => {
    const seen = await withExample('nic', async ({ device, driver, until }) => {
      const nic = new driver.NicDriver(device, { descriptors: 4 });
      const before = nic.room;
      // The card works on a later turn: within this one the ring can only fill up.
      const sending = Array.from({ length: 50 }, (_, i) => nic.send(new Uint8Array(60).fill(i)));
      await Promise.all(sending.slice(0, 3));
      const full = nic.room;
      await Promise.all(sending);
      await until(() => nic.statistics.sent === 50);
      const frames = [];
      for (let i = 0; i < 3; i++) frames.push((await nic.receive())[0]);
      return { before, full, frames, ...nic.statistics };
    });
    // Nothing was received meanwhile: the ring to receive by took three, and the others were dropped where they came out.
    expect(seen).toMatchObject({ before: 3, full: 0, frames: [0, 1, 2], sent: 50, received: 3, dropped: 47 });
  });

  test('refuses frames that are none, and more descriptors than fit into the memory', async () => {
    const seen = await withExample('nic', async ({ device, driver }) => {
      const nic = new driver.NicDriver(device);
      const refusals = [];
      for (const length of [0, 1519]) refusals.push(await nic.send(new Uint8Array(length)).catch((error: Error) => error.name));
      try {
        new driver.NicDriver(device, { descriptors: 64 });
      } catch (error) {
        refusals.push((error as Error).name);
      }
      return refusals;
    });
    expect(seen).toEqual(['RangeError', 'RangeError', 'RangeError']);
  });

  test.each(REMOVALS)('every call ends when the card is removed from the %s, ops %s', async (from, where, rounds) => {
    const tally = await removals('nic', from, where, rounds);
    expect(tally.rounds).toBeGreaterThanOrEqual(rounds);
    expectEndings(tally);
  });

  test.each(RAW_REMOVALS)('every call ends with %s registers when the card is removed from the %s', async (way, from, rounds) => {
    const tally = await removals('nic', from, 'spawned', rounds, way);
    expect(tally.rounds).toBeGreaterThanOrEqual(rounds);
    expectEndings(tally);
  });
});

/** What the card saw of ten frames, each of which has come back before its driver looks for it. */
function traceOfFrames(registers: string): Promise<string> {
  return withExample<string>(
    'nic',
    async ({ device, driver, file, input }) => {
      const trace = device.trace();
      const nic = new driver.NicDriver(device, { descriptors: 4, registers: input });
      const interrupts = file.interrupts();
      for (let i = 0; i < 10; i++) {
        await nic.send(new Uint8Array(60 + i).fill(i));
        await interrupts.next(); // sent
        await interrupts.next(); // received
        const frame = await nic.receive();
        if (frame.length !== 60 + i || frame[59] !== i) throw new Error(`not the frame that was sent: ${frame}`);
      }
      void nic.statistics;
      void nic.room;
      trace.stop();
      const lines = [];
      for await (const line of trace.lines()) lines.push(line);
      return lines.join('\n');
    },
    { where: 'spawned', input: registers },
  );
}
