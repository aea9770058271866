import { Mapping, MappingRevokedError, MemoryObject, stats, type MapOptions } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { until } from '../support/until.js';

const PAGE = 4096;
const GIB = 2 ** 30;

const FILLS = [
  { fill: 'zeros', byte: 0 },
  { fill: 'ones', byte: 0xff },
] as const;
const KINDS: Omit<MapOptions, 'fill'>[] = [
  {},
  { access: 'r' },
  { shared: false },
  { shared: false, access: 'r' },
  { private: true },
  { private: true, access: 'r' },
  { shared: false, private: true },
  { populate: true },
];
const cases = FILLS.flatMap(({ fill, byte }) => KINDS.map((kind) => ({ fill, byte, kind, title: JSON.stringify(kind) })));

describe('A2 raw views complete with the fill', () => {
  test.each(cases)('A2 every byte reads $fill in a mapping $title, touched before or not', ({ fill, byte, kind }) => {
    const size = 5 * PAGE + 100;
    const memory = MemoryObject.create({ size });
    memory.map().bytes.fill(0x5a);
    const mapping = memory.map({ ...kind, fill });
    expect(mapping.bytes[3 * PAGE]).toBe(0x5a);
    memory.revokeSync();
    expect(mapping.state).toBe('revoked');
    expect(mapping.bytes[size - 1]).toBe(byte);
    expect(mapping.bytes.every((value) => value === byte)).toBe(true);
    expect(mapping.view.getUint32(0)).toBe(byte === 0 ? 0 : 0xffffffff);
    expect(mapping.state).toBe('revoked');
    expect(mapping.faults).toBe(1); // one for all of it
    memory.close();
  });

  test.each(FILLS)('A2 writes to $fill complete, stay in that mapping, and reach no other', ({ fill, byte }) => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const [one, other, third] = [memory.map({ fill }), memory.map({ fill }), memory.map({ fill, access: 'r' })];
    memory.revokeSync();
    one.bytes[PAGE] = 0x12; // the first touch is a write
    expect(one.bytes[PAGE]).toBe(0x12);
    expect(one.bytes[0]).toBe(byte);
    expect(one.bytes[2 * PAGE]).toBe(byte);
    expect(other.bytes[PAGE]).toBe(byte);
    third.bytes[PAGE] = 0x34; // revoked and read-only: the fill is widened by the access
    expect(third.bytes[PAGE]).toBe(0x34);
    expect(other.bytes[PAGE]).toBe(byte);
    memory.close();
  });

  test.each(FILLS)('A2 a read-only mapping that was read first takes a write to its fill of $fill', ({ fill, byte }) => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const mapping = memory.map({ fill, access: 'r' });
    memory.revokeSync();
    expect(mapping.bytes[5]).toBe(byte);
    mapping.bytes[5] = 0x77;
    expect(mapping.bytes[5]).toBe(0x77);
    expect(mapping.bytes[6]).toBe(byte);
    memory.close();
  });

  test('A2 atomic operations on a raw view complete', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map({ fill: 'ones' });
    const words = new Int32Array(mapping.buffer, 0, 4);
    memory.revokeSync();
    expect(Atomics.add(words, 1, 2)).toBe(-1);
    expect(Atomics.load(words, 1)).toBe(1);
    expect(Atomics.compareExchange(words, 2, -1, 5)).toBe(-1);
    expect(words[2]).toBe(5);
    expect(words[3]).toBe(-1);
    memory.close();
  });

  test('A2 what protect() had closed reads the fill too', () => {
    const memory = MemoryObject.create({ size: 4 * PAGE });
    const mapping = memory.map({ fill: 'ones' });
    mapping.bytes.fill(1);
    mapping.protect({ offset: PAGE, length: PAGE, access: 'none' });
    mapping.protect({ offset: 2 * PAGE, length: PAGE, access: 'r' });
    memory.revokeSync();
    for (const at of [PAGE, 2 * PAGE, 0, 3 * PAGE]) expect(mapping.bytes[at]).toBe(0xff);
    mapping.bytes[2 * PAGE] = 3;
    mapping.bytes[PAGE] = 4;
    expect([mapping.bytes[2 * PAGE], mapping.bytes[PAGE]]).toEqual([3, 4]);
    memory.close();
  });

  test('A2 exactly one event per mapping, on a later turn, however often it is touched and revoked', async () => {
    const memory = MemoryObject.create({ size: 4 * PAGE, name: 'ring' });
    const mappings = [
      memory.map(),
      memory.map({ fill: 'ones' }),
      memory.map({ offset: PAGE, length: PAGE }),
      memory.map({ shared: false }),
    ];
    const events: { mapping: Mapping; error: MappingRevokedError }[] = [];
    const objectEvents: MappingRevokedError[] = [];
    for (const mapping of mappings) mapping.on('revoked', (error) => events.push({ mapping, error }));
    memory.on('revoked', (error) => objectEvents.push(error));
    memory.revokeSync('unplugged');
    for (const mapping of mappings) for (let i = 0; i < 10; i++) mapping.bytes[i * 100] = 1;
    memory.revokeSync();
    expect(events).toEqual([]); // never within the call, nor within this turn
    await until('all events have come', () => events.length >= mappings.length && objectEvents.length >= 1);
    await memory.revoke();
    for (const mapping of mappings) expect(mapping.bytes[4000]).toBe(mapping === mappings[1] ? 0xff : 0);
    await barrier();
    expect(events.map(({ mapping }) => mappings.indexOf(mapping)).sort()).toEqual([0, 1, 2, 3]);
    expect(objectEvents).toHaveLength(1);
    for (const { error } of events) {
      expect(error).toBeInstanceOf(MappingRevokedError);
      expect(error).toMatchObject({ object: 'ring', cause: 'unplugged' });
    }
    for (const mapping of mappings) expect(mapping.state).toBe('revoked');
    memory.close();
  });

  test('A2 the event comes also when no thread touches anything', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    let events = 0;
    mapping.on('revoked', () => events++);
    memory.revokeSync();
    await until('the event has come', () => events > 0);
    await barrier();
    expect(events).toBe(1);
    expect(mapping.faults).toBe(0);
    memory.close();
  });

  test('A2 ones fill a mapping of more than 1 GiB, window by window, without one behind the other', () => {
    const size = GIB + 256 * 2 ** 20 + PAGE;
    const memory = MemoryObject.create({ size });
    const mapping = memory.map({ fill: 'ones' });
    const places = [0, 2 ** 21 - 1, 2 ** 21, 5 * 2 ** 21 + 17, GIB - 1, GIB, GIB + 3 * 2 ** 21, size - 1];
    for (const at of places) mapping.bytes[at] = 0x5a;
    memory.revokeSync();
    const before = process.memoryUsage.rss();
    for (const at of places) expect([at, mapping.bytes[at]]).toEqual([at, 0xff]);
    mapping.bytes[100] = 1;
    mapping.bytes[size - 1] = 2;
    expect(mapping.bytes[2 ** 21 + 100]).toBe(0xff);
    expect(mapping.bytes[GIB + 100]).toBe(0xff);
    for (const at of places.slice(0, -1)) expect([at, mapping.bytes[at]]).toEqual([at, 0xff]);
    expect([mapping.bytes[100], mapping.bytes[size - 1]]).toEqual([1, 2]);
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 2 ** 20); // it is not copied
    memory.close();
  });

  test('A2 zeros fill a mapping of more than 1 GiB with one mapping', () => {
    const size = GIB + PAGE;
    const memory = MemoryObject.create({ size });
    const mapping = memory.map();
    mapping.bytes[size - 1] = 1;
    memory.revokeSync();
    const before = stats().fills;
    for (let at = 0; at < size; at += 2 ** 24) if (mapping.bytes[at] !== 0) throw new Error(`not zero at ${at}`);
    expect(mapping.bytes[size - 1]).toBe(0);
    expect(stats().fills - before).toBe(1);
    expect(mapping.faults).toBe(1);
    memory.close();
  });
});
