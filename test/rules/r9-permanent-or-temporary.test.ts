import diagnosticsChannel from 'node:diagnostics_channel';
import { MemoryObject, stats, type Mapping } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runChild, runInChild } from '../support/child.js';
import { converse } from '../support/conversation.js';
import { CHECKED_ACCESSORS } from '../support/accessors.js';
import { until } from '../support/until.js';

const PAGE = 4096;
const SUSPENDED = expect.objectContaining({ code: 'ERR_MAPPING_SUSPENDED', name: 'MappingSuspendedError' });
const REVOKED = expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' });

function heard(memory: MemoryObject, mapping?: Mapping): string[] {
  const events: string[] = [];
  for (const event of ['revoked', 'suspended', 'resumed', 'fault', 'close'] as const)
    memory.on(event, () => events.push(`object ${event}`));
  for (const event of ['revoked', 'fault', 'close'] as const) mapping?.on(event, () => events.push(`mapping ${event}`));
  return events;
}

describe('R9 revoke is for ever, suspend is for a while', () => {
  test('R9 every checked access of a suspended mapping throws MappingSuspendedError, and works again after resume', async () => {
    const memory = MemoryObject.create({ size: 2 * PAGE, name: 'asleep' });
    const mapping = memory.map();
    mapping.write32(PAGE, 0xcafe);
    const { buffer, bytes, view, address } = mapping;
    const report = await memory.suspend();
    expect(report).toMatchObject({
      object: 'asleep',
      revokedByThisCall: true,
      mappings: 1,
      means: { truncated: false, replaced: 1, protected: 0, failed: 0 },
    });
    expect([memory.state, mapping.state]).toEqual(['suspended', 'suspended']);
    for (const { access } of CHECKED_ACCESSORS) expect(() => access(mapping, PAGE)).toThrow(SUSPENDED);
    expect(() => mapping.check()).toThrow(SUSPENDED);
    expect(() => mapping.share()).toThrow(SUSPENDED);
    expect(() => memory.map()).toThrow(SUSPENDED);
    await memory.resume();
    expect([memory.state, mapping.state]).toEqual(['live', 'live']);
    expect(mapping.read32(PAGE)).toBe(0xcafe);
    for (const { access } of CHECKED_ACCESSORS) access(mapping, 0);
    expect([mapping.buffer, mapping.bytes, mapping.view, mapping.address]).toEqual([buffer, bytes, view, address]);
    expect(mapping.buffer).toBe(buffer);
    expect(bytes[PAGE]).toBe(0xfe);
    expect(memory.map().read32(PAGE)).toBe(0xcafe);
    memory.close();
  });

  test.each([
    ['zeros', 0],
    ['ones', 0xff],
  ] as const)('R9 raw views show the fill (%s) while suspended, and the same contents after', async (fill, byte) => {
    const run = await runInChild(
      async (lib, _require, input) => {
        const object = lib.MemoryObject.create({ size: 3 * 4096 });
        const mappings = [
          object.map({ fill: input.fill }),
          object.map({ fill: input.fill, shared: false }),
          object.map({ fill: input.fill, access: 'r' }),
        ];
        const witness = mappings[0];
        const cycles: unknown[] = [];
        for (let cycle = 1; cycle <= 4; cycle++) {
          witness.write8(5000, cycle);
          await object.suspend();
          const asleep = mappings.map(({ bytes }) => bytes[5000]);
          for (const { bytes } of mappings.slice(0, 2)) bytes[5000] = 0x77; // goes into the fill
          const written = mappings.map(({ bytes }) => bytes[5000]);
          await object.resume();
          cycles.push([
            asleep,
            written,
            mappings.map(({ bytes }) => bytes[5000]),
            mappings.map((mapping) => mapping.read8(5000)),
          ]);
        }
        object.revokeSync();
        return { cycles, after: mappings.map(({ bytes }) => bytes[5000]) };
      },
      { input: { fill } },
    );
    expect(run).toMatchObject({ status: 0, signal: null });
    const asleep = [byte, byte, byte];
    expect(run.value).toEqual({
      cycles: [1, 2, 3, 4].map((cycle) => [asleep, [0x77, 0x77, byte], [cycle, cycle, cycle], [cycle, cycle, cycle]]),
      after: asleep,
    });
  });

  test('R9 a mapping of ones larger than 1 GiB can be suspended, touched and resumed again and again', async () => {
    const run = await runInChild(async (lib) => {
      const object = lib.MemoryObject.create({ size: 2 ** 30 + 4096 });
      const mapping = object.map({ fill: 'ones' });
      const seen: number[] = [];
      for (let cycle = 1; cycle <= 3; cycle++) {
        mapping.bytes[7] = cycle;
        await object.suspend();
        seen.push(mapping.bytes[7]);
        await object.resume();
        seen.push(mapping.bytes[7]);
      }
      object.revokeSync();
      seen.push(mapping.bytes[7]);
      return seen;
    });
    expect(run).toMatchObject({ status: 0, signal: null, value: [255, 1, 255, 2, 255, 3, 255] });
  });

  test('R9 protections and rearranged pages survive a suspension', async () => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map();
    for (let page = 0; page < 4; page++) mapping.write32(page * PAGE, page);
    mapping.protect({ offset: PAGE, length: PAGE, access: 'r' });
    mapping.protect({ offset: 2 * PAGE, length: PAGE, access: 'none' });
    mapping.remapPages({ offset: 3 * PAGE, length: PAGE, objectOffset: 0 });
    await memory.suspend();
    await memory.resume();
    expect([mapping.read32(0), mapping.read32(PAGE), mapping.read32(3 * PAGE)]).toEqual([0, 1, 0]);
    expect(() => mapping.write32(PAGE, 1)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_READ_ONLY' }));
    expect(() => mapping.read32(2 * PAGE)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_PROTECTED' }));
    mapping.write32(3 * PAGE, 0x55);
    expect(mapping.read32(0)).toBe(0x55);
    memory.close();
  });

  test('R9 an object with private mappings is not suspended: EBUSY, and everything stays as it was', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const shared = memory.map();
    const copy = memory.map({ private: true });
    copy.write32(0, 0xcafe);
    const events = heard(memory);
    await expect(memory.suspend()).rejects.toMatchObject({ code: 'EBUSY' });
    expect([memory.state, shared.state, copy.state]).toEqual(['live', 'live', 'live']);
    expect([shared.read32(0), copy.read32(0)]).toEqual([0, 0xcafe]);
    copy.close();
    await memory.suspend();
    expect(memory.state).toBe('suspended');
    await until('the event has come', () => events.length >= 1);
    await barrier();
    expect(events).toEqual(['object suspended']);
    memory.close();
  });

  test('R9 twice is fine: the second suspend and a needless resume change nothing and emit nothing', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    const events = heard(memory, mapping);
    await memory.resume();
    expect((await memory.suspend()).revokedByThisCall).toBe(true);
    expect((await memory.suspend()).revokedByThisCall).toBe(false);
    await memory.resume();
    await memory.resume();
    await until('the event has come', () => events.length >= 2);
    await barrier();
    expect(events).toEqual(['object suspended', 'object resumed']);
    expect(mapping.read8(0)).toBe(0);
    memory.close();
  });

  test.each(['zeros', 'ones'] as const)(
    'R9 suspend, touch, resume, revoke, touch: every channel has each phase once, fill %s',
    async (fill) => {
      const memory = MemoryObject.create({ size: 4 * PAGE });
      const mapping = memory.map({ fill });
      const emitted = heard(memory, mapping);
      const hear = (message: unknown): void => {
        const { mapping: whose, kind } = message as { mapping: Mapping; kind: string };
        if (whose === mapping) emitted.push(`channel ${kind}`);
      };
      diagnosticsChannel.subscribe('revocable-mmap:fault', hear);
      const counts = (): number[] => [stats().faults.suspended, stats().faults.revoked, stats().fills, mapping.faults];
      const phase = async (act: () => unknown): Promise<{ emitted: string[]; counts: number[] }> => {
        const before = counts();
        await act();
        for (let page = 0; page < 4; page++) mapping.bytes[page * PAGE] ^= 1;
        await barrier();
        return { emitted: emitted.splice(0).sort(), counts: counts().map((count, i) => count - before[i]) };
      };
      for (let round = 0; round < 3; round++) {
        expect(await phase(() => memory.suspend())).toEqual({
          emitted: ['channel revoked', 'object suspended'],
          counts: [1, 0, 1, 1],
        });
        expect(await phase(() => memory.resume())).toEqual({ emitted: ['object resumed'], counts: [0, 0, 0, 0] });
      }
      expect(await phase(() => memory.revokeSync())).toEqual({
        emitted: ['channel revoked', 'mapping revoked', 'object revoked'],
        counts: [0, 1, 1, 1],
      });
      expect(await phase(() => undefined)).toEqual({ emitted: [], counts: [0, 0, 0, 0] });
      diagnosticsChannel.unsubscribe('revocable-mmap:fault', hear);
      memory.close();
    },
  );

  test('R9 revoke ends a suspension for ever', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    const events = heard(memory, mapping);
    await memory.suspend();
    expect(memory.revokeSync()).toMatchObject({ revokedByThisCall: true, mappings: 1 });
    expect(() => mapping.read8(0)).toThrow(REVOKED);
    await expect(memory.resume()).rejects.toMatchObject({ code: 'ENODEV' });
    await expect(memory.suspend()).rejects.toMatchObject({ code: 'ENODEV' });
    expect(() => mapping.read8(0)).toThrow(REVOKED);
    const ofTheEnd = (): string[] => events.filter((event) => event !== 'object suspended');
    await until('the event has come', () => ofTheEnd().length >= 2);
    await barrier();
    expect(ofTheEnd()).toEqual(['object revoked', 'mapping revoked']);
    memory.close();
    await expect(memory.suspend()).rejects.toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
    await expect(memory.resume()).rejects.toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
  });

  test('R9 revoked memory never comes back: a device that returns is a new object', async () => {
    const device = MemoryObject.create({ size: PAGE });
    const first = MemoryObject.fromFd(device.fd, { writable: true });
    const mapping = first.map();
    mapping.write32(0, 0xcafe);
    first.revokeSync();
    const second = MemoryObject.fromFd(device.fd, { writable: true });
    expect(second.map().read32(0)).toBe(0xcafe);
    expect(() => mapping.read32(0)).toThrow(REVOKED);
    expect([first.state, second.state]).toEqual(['revoked', 'live']);
    await expect(first.resume()).rejects.toMatchObject({ code: 'ENODEV' });
    for (const object of [first, second, device]) object.close();
  });

  test('R9 a suspension concerns this process only', async () => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const mapping = memory.map();
    mapping.write32(0, 1);
    mapping.write32(PAGE, 2);
    const child = converse('r9-other.cjs', { fds: [memory.fd] });
    expect(await child.hear()).toBe(1);
    await memory.suspend();
    child.say('write');
    expect(await child.hear()).toBe('written');
    await memory.resume();
    expect(mapping.read32(0)).toBe(0x1234);
    expect(await child.end()).toMatchObject({ status: 0, signal: null });
    memory.close();
  });

  test('R9 readers in threads see the fill or the newest contents while 3,000 suspensions come and go', async () => {
    const run = await runChild('r9-storm.cjs', { args: [3000], limit: 220_000 });
    console.log(run.stdout.split('\n')[0]);
    expect(run).toMatchObject({ status: 0, signal: null });
    const { readers, ...all } = JSON.parse(run.stdout.split('\n')[1]) as {
      readers: { values: number; fills: number; refused: number }[];
    };
    expect(all).toEqual({ suspends: 3000, resumes: 3000, foreignSignals: 0, lateWrites: 0 });
    for (const reader of readers) {
      expect(reader).toMatchObject({
        leaked: 0,
        old: 0,
        wrong: 0,
        backwards: 0,
        strangeErrors: [],
        end: ['ERR_MAPPING_REVOKED', 'ERR_MAPPING_REVOKED'],
      });
      expect(Math.min(reader.values, reader.fills, reader.refused)).toBeGreaterThan(100);
    }
  });
});
