import { runNode } from '../support/child.js';
import { expectEndings, RAW_REMOVALS, removals, REMOVALS, withExample } from '../support/examples.js';

describe('examples/devices/edu: what QEMU specifies', () => {
  test('0x00 identifies the card, and is read only', async () => {
    const read = await withExample('edu', ({ map }) => {
      const bar = map('bar0');
      bar.write32(0x00, 7);
      return [bar.read32(0x00), bar.length];
    });
    expect(read).toEqual([0x010000ed, 1024 * 1024]);
  });

  test('0x04 inverts what is written', async () => {
    const read = await withExample('edu', ({ map }) => {
      const bar = map('bar0');
      return [0, 1, 0x80000000, 0xffffffff].map((value) => {
        bar.write32(0x04, value);
        return bar.read32(0x04);
      });
    });
    expect(read).toEqual([0xffffffff, 0xfffffffe, 0x7fffffff, 0]);
  });

  test('0x08 is replaced by its factorial, modulo 2^32, when bit 0x01 of 0x20 clears', async () => {
    const results = await withExample('edu', async ({ map, until }) => {
      const bar = map('bar0');
      const seen = [];
      for (const n of [0, 1, 10, 12, 13, 34, 0xffffffff]) {
        bar.write32(0x08, n);
        seen.push([n, bar.read32(0x20), bar.read32(0x08)]);
        await until(() => (bar.read32(0x20) & 1) === 0);
        seen.at(-1)!.push(bar.read32(0x08));
      }
      return seen;
    });
    const expected = [1, 1, 3628800, 479001600, 1932053504, 0, 0];
    expect(results).toEqual([0, 1, 10, 12, 13, 34, 0xffffffff].map((n, i) => [n, 1, n, expected[i]]));
  });

  test('a factorial that is being computed is not disturbed, and its bit cannot be written', async () => {
    const seen = await withExample('edu', async ({ map, until }) => {
      const bar = map('bar0');
      bar.write32(0x20, 0x01);
      const idle = bar.read32(0x20);
      bar.write32(0x08, 5);
      bar.write32(0x08, 6);
      bar.write32(0x20, 0);
      const busy = bar.read32(0x20);
      await until(() => (bar.read32(0x20) & 1) === 0);
      return [idle, busy, bar.read32(0x08)];
    });
    expect(seen).toEqual([0, 1, 120]);
  });

  test('0x80 of 0x20: an interrupt after a factorial, with status 0x001; none without', async () => {
    const seen = await withExample('edu', async ({ map, file, until }) => {
      const bar = map('bar0');
      const interrupts = file.interrupts();
      bar.write32(0x08, 3);
      await until(() => (bar.read32(0x20) & 1) === 0);
      const without = bar.read32(0x24);
      bar.write32(0x20, 0x80);
      bar.write32(0x08, 4);
      const { value } = await interrupts.next(); // the first that came
      return [without, value, bar.read32(0x24), bar.read32(0x20), bar.read32(0x08)];
    });
    expect(seen).toEqual([0, 0, 0x001, 0x80, 24]);
  });

  test('0x60 raises, 0x24 collects, 0x64 acknowledges', async () => {
    const seen = await withExample('edu', async ({ map, file }) => {
      const bar = map('bar0');
      const interrupts = file.interrupts();
      const states = [];
      for (const [register, value] of [
        [0x60, 0x10],
        [0x60, 0x80000001],
        [0x24, 0],
        [0x64, 0x10],
        [0x64, 0x80000001],
        [0x60, 0],
      ]) {
        bar.write32(register, value);
        states.push(bar.read32(0x24));
      }
      file.close();
      let raised = 0;
      while (
        await interrupts.next().then(
          ({ done }: IteratorResult<number>) => !done,
          () => false,
        )
      )
        raised++;
      return { states, raised };
    });
    expect(seen).toEqual({ states: [0x10, 0x80000011, 0x80000011, 0x80000001, 0, 0], raised: 2 });
  });

  test('0x80 to 0x98: DMA from the host to the buffer and back; 0x04 raises 0x100', async () => {
    const seen = await withExample('edu', async ({ map, file, until }) => {
      const bar = map('bar0');
      const ram = map('ram');
      const interrupts = file.interrupts();
      const transfer = (source: number, destination: number, count: number, command: number) => {
        bar.write64(0x80, BigInt(source));
        bar.write32(0x88, destination);
        bar.write64(0x90, BigInt(count));
        bar.write32(0x98, command);
        bar.write64(0x90, 1n); // too late
      };
      ram.write(
        100,
        Uint8Array.from({ length: 100 }, (_, i) => i),
      );
      transfer(100, 0x40000, 100, 0x1);
      const running = bar.read64(0x98);
      await until(() => (bar.read32(0x98) & 1) === 0);
      const without = bar.read32(0x24);
      transfer(0x40000, 1000, 100, 0x7);
      await interrupts.next();
      const back = new Uint8Array(102);
      ram.read(999, back);
      return { running, without, status: bar.read32(0x24), command: bar.read32(0x98), back: [...back] };
    });
    const bytes = Array.from({ length: 100 }, (_, i) => i);
    expect(seen).toEqual({ running: 1, without: 0, status: 0x100, command: 6, back: [0, ...bytes, 0] });
  });

  test('a transfer without bit 0x01 does not start; one outside the buffer moves nothing and ends', async () => {
    const seen = await withExample('edu', async ({ map, until }) => {
      const bar = map('bar0');
      const ram = map('ram');
      ram.write32(0, 0xabcdef);
      bar.write32(0x98, 0x6);
      const commands = [bar.read32(0x98)];
      for (const [destination, count] of [
        [0x40000 + 4093, 4],
        [0x3ffff, 4],
        [0, 4],
        [0x40000, 4097],
        [0x40000, 0],
      ]) {
        bar.write32(0x80, 0);
        bar.write32(0x88, destination);
        bar.write32(0x90, count);
        bar.write32(0x98, 0x1);
        await until(() => (bar.read32(0x98) & 1) === 0);
        commands.push(bar.read32(0x98));
      }
      bar.write32(0x80, 0x40000);
      bar.write32(0x88, 4096);
      bar.write32(0x90, 4096);
      bar.write32(0x98, 0x3);
      await until(() => (bar.read32(0x98) & 1) === 0);
      const buffer = new Uint8Array(4096);
      ram.read(4096, buffer);
      return { commands, empty: buffer.every((byte) => byte === 0) };
    });
    expect(seen).toEqual({ commands: [0, 0, 0, 0, 0, 0], empty: true });
  });

  test('the card drives 28 bits of a bus address, or those of its mask; where no memory is, it reads ones', async () => {
    const body = async ({ map, until }: any) => {
      const bar = map('bar0');
      const ram = map('ram');
      const transfer = async (source: bigint, destination: bigint, command: number) => {
        bar.write64(0x80, source);
        bar.write64(0x88, destination);
        bar.write32(0x90, 4);
        bar.write32(0x98, command);
        await until(() => (bar.read32(0x98) & 1) === 0);
      };
      ram.write32(0x10, 0x600d);
      await transfer(0x7_1000_0010n, 0x40000n, 1);
      await transfer(0x40000n, 0x1000n, 3);
      await transfer(0x0fff_0000n, 0x40000n, 1);
      await transfer(0x40000n, 0x2000n, 3);
      await transfer(0x40000n, 0x0fff_0000n, 3);
      return [ram.read32(0x1000), ram.read32(0x2000)];
    };
    expect(await withExample('edu', body)).toEqual([0x600d, 0xffffffff]);
    // With 16 bits fewer, the second address is that of the first word.
    expect(await withExample('edu', body, { data: { dmaMask: 0xffff } })).toEqual([0x600d, 0]);
  });

  test('4 bytes below 0x80, 4 or 8 from there on; others read ones and write nothing', async () => {
    const seen = await withExample('edu', ({ map }) => {
      const bar = map('bar0');
      bar.write8(0x04, 1);
      bar.write16(0x04, 1);
      bar.write64(0x60, 1n);
      bar.write64(0x80, 0x1122334455667788n);
      bar.write16(0x80, 1);
      return {
        narrow: [bar.read8(0x00), bar.read16(0x00), bar.read16(0x80)],
        wide: String(bar.read64(0x00)),
        untouched: [bar.read32(0x04), bar.read32(0x24)],
        source: [bar.read32(0x80), String(bar.read64(0x80))],
        nowhere: [bar.read32(0x0c), bar.read32(0x84), bar.read32(0xffffc), bar.read32(0x60)],
      };
    });
    expect(seen).toEqual({
      narrow: [0xff, 0xffff, 0xffff],
      wide: String(2n ** 64n - 1n),
      untouched: [0, 0],
      source: [0x55667788, String(0x1122334455667788n)],
      nowhere: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    });
  });
});

describe('examples/devices/edu-driver', () => {
  test.each([
    ['here', 'checked'],
    ['spawned', 'checked'],
    ['spawned', 'raw'],
    ['spawned', 'webassembly'],
  ] as const)('does its jobs, also several at once, with the ops %s and %s registers', async (where, registers) => {
    const seen = await withExample(
      'edu',
      async ({ device, driver, input }) => {
        const edu = new driver.EduDriver(device, { registers: input });
        const sent = Uint8Array.from({ length: 4096 }, (_, i) => i * 7);
        const [six, ten, returned] = await Promise.all([edu.factorial(6), edu.factorial(10), edu.dmaRoundTrip(sent)]);
        const same = sent.every((byte, i) => byte === returned[i]);
        const version = edu.identify();
        edu.close();
        return { version, alive: new driver.EduDriver(device, { registers: input }).isAlive(), six, ten, same };
      },
      { where, input: registers },
    );
    expect(seen).toEqual({ version: { major: 1, minor: 0 }, alive: true, six: 720, ten: 3628800, same: true });
  });

  test.each(['raw', 'webassembly'])('the thread that would have to answer itself gets an error: %s', async (registers) => {
    const seen = await withExample(
      'edu',
      ({ device, driver, input }) => {
        const edu = new driver.EduDriver(device, { registers: input });
        const codes = [1, 2].map(() => {
          try {
            return edu.identify();
          } catch (error) {
            return (error as { code: string }).code;
          }
        });
        return { codes, reads: device.opCounts.readRegister };
      },
      { input: registers },
    );
    expect(seen).toEqual({ codes: ['ERR_DEVICE_SELF_FAULT', 'ERR_DEVICE_SELF_FAULT'], reads: 0 });
  });

  test("the card sees the same, line for line, whether registers are checked, raw or a WebAssembly program's", async () => {
    const checked = await traceOfJobs('checked');
    expect(checked.split('\n').slice(0, 3)).toEqual([
      'R 4 bar0+0x0000 0x010000ed',
      'W 4 bar0+0x0004 0x12345678',
      'R 4 bar0+0x0004 0xedcba987',
    ]);
    expect(checked.split('\n')).toHaveLength(3 + 2 * 5 + 2 * 6);
    expect(await traceOfJobs('raw')).toBe(checked);
    expect(await traceOfJobs('webassembly')).toBe(checked);
  });

  test.each(['checked', 'raw', 'webassembly'])('a loop that polls ends with the computation: %s', async (registers) => {
    const seen = await withExample(
      'edu',
      async ({ device, driver, input }) => {
        const trace = device.trace();
        const value = new driver.EduDriver(device, { registers: input }).pollFactorial(7);
        trace.stop();
        const lines = [];
        for await (const line of trace.lines()) if (line !== lines.at(-1)) lines.push(line);
        return { value, lines };
      },
      { lookedAt: true, input: registers },
    );
    const [status, factorial] = ['bar0+0x0020 0x000000', 'bar0+0x0008 0x0000'];
    expect(seen.lines).toEqual([
      `W 4 ${status}00`,
      `W 4 ${factorial}0007`,
      `R 4 ${status}01`,
      `R 4 ${status}00`,
      `R 4 ${factorial}13b0`,
    ]);
    expect(seen.value).toBe(5040);
  });

  test('the program loads as often as it says, also when V8 has optimised it', async () => {
    const counts = await withExample('edu', async ({ Device, RegisterFile, file, programs }) => {
      const status = { offset: 0x20, value: 1 };
      const model = new RegisterFile([status]);
      const fast = new Device({ name: 'fast', regions: [{ size: 4096, kind: 'registers', model }] });
      file.close();
      const memory = programs.memoryOf(17 * 65_536);
      const mapping = fast.open().map({ memory, memoryOffset: 0x10000 });
      const { poll } = programs.programIn(memory, 'edu-driver');
      const counts = [];
      for (let i = 0; i < 5; i++) {
        const trace = fast.trace();
        poll(20_000);
        trace.stop();
        let count = 0;
        for await (const { offset } of trace) if (offset === 0x20) count++;
        counts.push(count);
      }
      mapping.close();
      await fast.unplug();
      return counts;
    });
    expect(counts).toEqual(Array(5).fill(20_000));
  });

  test.each(['raw', 'webassembly'])('a loop that polls ends with the device: %s', async (registers) => {
    const seen = await withExample(
      'edu',
      async ({ device, driver, input }) => {
        const edu = new driver.EduDriver(device, { registers: input });
        const errors = [];
        for (const call of [() => edu.pollFactorial(7), () => edu.identify()]) {
          try {
            errors.push(call());
          } catch (error) {
            errors.push((error as { code: string }).code);
          }
        }
        return errors;
      },
      { removedAt: 50, input: registers, data: { delay: 60_000 } },
    );
    expect(seen).toEqual(['ERR_MAPPING_REVOKED', 'ERR_MAPPING_REVOKED']);
  });

  test.each(REMOVALS)('every call ends when the card is removed from the %s, ops %s', async (from, where, rounds) => {
    const tally = await removals('edu', from, where, rounds);
    expect(tally.rounds).toBeGreaterThanOrEqual(rounds);
    expectEndings(tally);
  });

  test.each(RAW_REMOVALS)('every call ends with %s registers when the card is removed from the %s', async (way, from, rounds) => {
    const tally = await removals('edu', from, 'spawned', rounds, way);
    expect(tally.rounds).toBeGreaterThanOrEqual(rounds);
    expectEndings(tally);
  });
});

test('examples/devices/costs measures each way to a register', async () => {
  const run = await runNode(['examples/devices/costs.mjs', '1']);
  expect(run).toMatchObject({ status: 0, stderr: '' });
  expect(run.stdout.match(/^[\w :,]+ [\d.]+ us +[\d.]+$/gm)).toHaveLength(14);
});

/** What the card saw of all that the driver can do. */
function traceOfJobs(registers: string): Promise<string> {
  return withExample<string>(
    'edu',
    async ({ device, driver, input }) => {
      const trace = device.trace();
      const edu = new driver.EduDriver(device, { registers: input });
      edu.identify();
      edu.isAlive();
      await edu.factorial(6);
      await edu.dmaRoundTrip(new Uint8Array(100).fill(7));
      await edu.factorial(40);
      trace.stop();
      const lines = [];
      for await (const line of trace.lines()) lines.push(line);
      return lines.join('\n');
    },
    { where: 'spawned', input: registers },
  );
}
