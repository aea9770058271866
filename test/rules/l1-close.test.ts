import { MemoryObject, type Mapping } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runInChild } from '../support/child.js';
import { CHECKED_ACCESSORS } from '../support/accessors.js';
import { until } from '../support/until.js';

const CLOSED = expect.objectContaining({ code: 'ERR_MAPPING_CLOSED' });

describe('L1 closing', () => {
  test('L1 close() and Symbol.dispose are idempotent, in every order with revoke and suspend', async () => {
    const run = await runInChild(async (lib) => {
      const steps: Record<string, (memory: MemoryObject, mapping: Mapping) => unknown> = {
        'mapping.close': (_, mapping) => mapping.close(),
        'mapping.dispose': (_, mapping) => mapping[Symbol.dispose](),
        'object.close': (memory) => memory.close(),
        'object.dispose': (memory) => memory[Symbol.dispose](),
        revokeSync: (memory) => memory.revokeSync(),
        touch: (_, mapping) => mapping.bytes[0],
      };
      const names = Object.keys(steps);
      const orders: string[][] = [];
      const extend = (order: string[]): void => {
        if (order.length === names.length) orders.push(order);
        for (const name of names) if (!order.includes(name)) extend([...order, name]);
      };
      extend([]);
      const wrong: unknown[] = [];
      for (const order of orders) {
        for (const prologue of ['', 'suspended', 'revoking']) {
          const memory = lib.MemoryObject.create({ size: 4096 });
          const mapping = memory.map({ fill: 'ones' });
          const events: string[] = [];
          mapping.on('revoked', () => events.push('mapping revoked')).on('close', () => events.push('mapping close'));
          memory.on('revoked', () => events.push('object revoked')).on('close', () => events.push('object close'));
          if (prologue === 'suspended') await memory.suspend();
          const pending = prologue === 'revoking' ? memory.revoke() : undefined;
          const states: string[] = [];
          try {
            for (const name of order) {
              steps[name](memory, mapping);
              states.push(`${memory.state} ${mapping.state}`);
              if (events.length > 0 && prologue !== 'suspended') throw new Error('an event within the call that caused it');
            }
            await pending;
          } catch (error) {
            wrong.push([prologue, order, String(error)]);
          }
          const count = (event: string) => events.filter((other) => other === event).length;
          const allClosed = () => count('mapping close') > 0 && count('object close') > 0;
          for (let i = 0, more = 0; i < 10_000 && more < 4; more += Number(allClosed()), i++)
            await new Promise((resolve) => setImmediate(resolve));
          const ends = count('mapping close') === 1 && count('object close') === 1 && events[events.length - 1].endsWith('close');
          const mappingEnd = events.indexOf('mapping close');
          const revokedAfterClose =
            events.lastIndexOf('mapping revoked') > mappingEnd ||
            events.lastIndexOf('object revoked') > events.indexOf('object close');
          const first = order.findIndex((name) => name.startsWith('mapping.') || name.startsWith('object.'));
          const closedForEver = states.slice(first).every((state) => state.endsWith(' closed'));
          if (!ends || revokedAfterClose || count('mapping revoked') > 1 || count('object revoked') > 1 || !closedForEver) {
            wrong.push([prologue, order, events, states]);
          }
        }
      }
      return {
        orders: orders.length,
        wrong: wrong.slice(0, 5),
        live: lib.stats().mappings.live,
        closed: lib.stats().mappings.closed,
      };
    });
    expect(run).toMatchObject({ status: 0, signal: null, value: { orders: 720, wrong: [], live: 0, closed: 2160 } });
  });

  test('L1 a closed mapping refuses every access with MappingClosedError, and its views read zeros of their own', async () => {
    const memory = MemoryObject.create({ size: 4096 });
    const mapping = memory.map({ fill: 'ones' });
    mapping.bytes.fill(0x5a);
    const { bytes, buffer } = mapping;
    const witness = memory.map();
    mapping.close();
    for (const { access } of CHECKED_ACCESSORS) expect(() => access(mapping, 0)).toThrow(CLOSED);
    const calls: (() => unknown)[] = [
      () => mapping.check(),
      () => mapping.protect({ offset: 0, length: 4096, access: 'r' }),
      () => mapping.remapPages({ offset: 0, length: 4096, objectOffset: 0 }),
      () => mapping.advise('normal'),
      () => mapping.sync(),
      () => mapping.lock(),
      () => mapping.unlock(),
      () => mapping.residency(),
      () => mapping.prefetch(),
      () => mapping.waitSync(0, 0),
      () => mapping.wake(0),
      () => mapping.share(),
    ];
    for (const call of calls) expect(call).toThrow(CLOSED);
    await expect(mapping.wait(0, 0)).rejects.toThrow(CLOSED);
    expect(mapping.state).toBe('closed');
    expect(mapping.buffer).toBe(buffer);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    bytes[0] = 1;
    expect(witness.read8(0)).toBe(0x5a);
    expect(memory.mappings).toEqual(new Set([witness]));
    memory.close();
  });

  test('L1 a closed object refuses with MappingClosedError, and is not revoked', async () => {
    const memory = MemoryObject.create({ size: 4096 });
    const mapping = memory.map();
    memory.close();
    expect([memory.state, mapping.state, memory.fd]).toEqual(['closed', 'closed', -1]);
    expect(() => memory.map()).toThrow(CLOSED);
    expect(() => memory.zap()).toThrow(CLOSED);
    await expect(memory.suspend()).rejects.toEqual(CLOSED);
    await expect(memory.resume()).rejects.toEqual(CLOSED);
    expect(() => mapping.read8(0)).toThrow(CLOSED);
    expect(memory.mappings.size).toBe(0);
    expect(memory.signal.aborted).toBe(false);
  });

  test('L1 closing from within the listeners is fine', async () => {
    const memory = MemoryObject.create({ size: 4096 });
    const [first, second] = [memory.map(), memory.map()];
    const events: string[] = [];
    first.on('revoked', () => {
      events.push('first revoked');
      first.close();
      second.close();
      memory.close();
    });
    first.on('close', () => {
      events.push('first close');
      first.close();
      memory.revokeSync();
    });
    second.on('revoked', () => events.push('second revoked')).on('close', () => events.push('second close'));
    memory.on('close', () => events.push('object close'));
    memory.revokeSync();
    await until('all close events have come', () => events.filter((event) => event.endsWith('close')).length >= 3);
    await barrier();
    expect(events.filter((event) => event.endsWith('close')).sort()).toEqual(['first close', 'object close', 'second close']);
    expect(events[0]).toBe('first revoked');
    expect(events.indexOf('second revoked')).toBeLessThan(events.indexOf('second close'));
  });
});
