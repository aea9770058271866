import diagnosticsChannel from 'node:diagnostics_channel';
import { MemoryObject, type Mapping, type MapOptions } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runInChild } from '../support/child.js';
import { temporaryFile } from '../support/temporary.js';
import { until } from '../support/until.js';

/** Writes down every event of an object and of its mappings, in order. */
function listen(object: MemoryObject, mappings: Record<string, Mapping>): string[] {
  const events: string[] = [];
  for (const event of ['revoked', 'suspended', 'resumed', 'fault', 'close'] as const)
    object.on(event, () => events.push(`object ${event}`));
  for (const [name, mapping] of Object.entries(mappings)) {
    for (const event of ['revoked', 'fault', 'close'] as const) mapping.on(event, () => events.push(`${name} ${event}`));
  }
  return events;
}

// Listeners do not keep a mapping: it would be collected, and tell nothing.
const held: Mapping[] = [];
afterEach(() => {
  held.length = 0;
});

function setUp(options?: MapOptions): { object: MemoryObject; mapping: Mapping; events: string[] } {
  const object = MemoryObject.create({ size: 8192 });
  const mapping = object.map(options);
  held.push(mapping);
  return { object, mapping, events: listen(object, { mapping }) };
}

/** Waits for so many of them, and then for more that should not come. */
async function haveCome(events: unknown[], count: number): Promise<void> {
  await until(`there are ${count} events`, () => events.length >= count);
  await barrier();
}

describe('L5 one terminal event, then silence', () => {
  test('L5 revokeSync: revoked once, on a later turn, whatever is touched or called after', async () => {
    const { object, mapping, events } = setUp();
    object.revokeSync();
    expect(events).toEqual([]);
    await Promise.resolve();
    expect(events).toEqual([]); // a later turn, not a later microtask
    await haveCome(events, 2);
    expect(events).toEqual(['object revoked', 'mapping revoked']);
    for (let i = 0; i < 3; i++) {
      expect(() => mapping.read8(0)).toThrow();
      object.revokeSync();
      await object.revoke();
      await barrier();
    }
    expect(events).toEqual(['object revoked', 'mapping revoked']);
    object.close();
    expect(events.length).toBe(2);
    await haveCome(events, 4);
    expect([...events.slice(2)].sort()).toEqual(['mapping close', 'object close']);
    object.close();
    mapping.close();
    object.revokeSync();
    await barrier();
    expect(events.length).toBe(4);
  });

  test('L5 await revoke() tells the same', async () => {
    const { object, events } = setUp();
    await Promise.all([object.revoke(), object.revoke()]);
    await haveCome(events, 2);
    expect(events).toEqual(['object revoked', 'mapping revoked']);
    object.close();
  });

  test('L5 the events carry the error that accesses throw, and so does the signal', async () => {
    const { object, mapping } = setUp();
    const reason = new Error('unplugged');
    const ofObject = new Promise((resolve) => object.once('revoked', resolve));
    const ofMapping = new Promise((resolve) => mapping.once('revoked', resolve));
    const { signal } = object;
    object.revokeSync(reason);
    expect(await ofObject).toMatchObject({ code: 'ERR_MAPPING_REVOKED', cause: reason });
    expect(await ofMapping).toMatchObject({ code: 'ERR_MAPPING_REVOKED', cause: reason });
    expect(signal.aborted).toBe(true);
    expect(signal.reason).toMatchObject({ code: 'ERR_MAPPING_REVOKED', cause: reason });
    expect(object.signal).toBe(signal);
    object.close();
    const late = MemoryObject.create({ size: 4096 });
    late.revokeSync();
    await barrier();
    expect(late.signal.aborted).toBe(true);
    late.close();
  });

  test('L5 close without revoke: close once, and nothing after', async () => {
    const { object, mapping, events } = setUp();
    mapping.close();
    expect(events).toEqual([]);
    await haveCome(events, 1);
    expect(events).toEqual(['mapping close']);
    object.revokeSync();
    await haveCome(events, 2);
    expect(events).toEqual(['mapping close', 'object revoked']);
    object.close();
    await haveCome(events, 3);
    expect(events).toEqual(['mapping close', 'object revoked', 'object close']);
  });

  test('L5 revoke and close in one turn: a mapping’s close is its last event', async () => {
    const { object, mapping, events } = setUp();
    const neighbour = object.map();
    neighbour.on('revoked', () => events.push('neighbour revoked')).on('close', () => events.push('neighbour close'));
    object.revokeSync();
    mapping.close();
    neighbour.close();
    object.close();
    await until('all close events have come', () => events.filter((event) => event.endsWith('close')).length >= 3);
    await barrier();
    for (const name of ['mapping', 'neighbour', 'object']) {
      const own = events.filter((event) => event.startsWith(name));
      expect(own[own.length - 1]).toBe(`${name} close`);
      expect(new Set(own).size).toBe(own.length);
    }
  });

  test('L5 suspend, resume, suspend, revoke: each once, in order', async () => {
    const { object, events } = setUp();
    await object.suspend();
    await haveCome(events, 1);
    await object.resume();
    await haveCome(events, 2);
    await object.suspend();
    await haveCome(events, 3);
    object.revokeSync();
    await haveCome(events, 5);
    expect(events).toEqual(['object suspended', 'object resumed', 'object suspended', 'object revoked', 'mapping revoked']);
    object.close();
  });

  test('L5 raw accesses of thousands after revocation, in several mappings, add no event', async () => {
    const run = await runInChild(async (lib, require) => {
      const { barrier } = require('./test/support/barrier.cjs') as typeof import('../support/barrier.cjs');
      const object = lib.MemoryObject.create({ size: 1 << 20 });
      const events: string[] = [];
      const mappings = Array.from({ length: 20 }, (_, i) => object.map({ fill: i % 2 === 0 ? 'zeros' : 'ones' }));
      object.on('revoked', () => events.push('object')).on('fault', () => events.push('fault of object'));
      mappings.forEach((mapping, i) =>
        mapping.on('revoked', () => events.push(`mapping ${i}`)).on('fault', () => events.push(`fault ${i}`)),
      );
      object.revokeSync();
      for (let round = 0; round < 5; round++) {
        for (const { bytes } of mappings) for (let at = 0; at < bytes.length; at += 4096) bytes[at] ^= 1;
        for (let i = 0; i < 10_000 && events.length < 21; i++) await new Promise((resolve) => setTimeout(resolve, 2));
        await barrier();
      }
      return events;
    });
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(run.value).toEqual(['object', ...Array.from({ length: 20 }, (_, i) => `mapping ${i}`)]);
  });

  test('L5 backing faults are one event a page, and the end of the whole is one', async () => {
    const run = await runInChild(
      async (lib, require, path) => {
        const fs = require('node:fs') as typeof import('node:fs');
        const { barrier } = require('./test/support/barrier.cjs') as typeof import('../support/barrier.cjs');
        const object = lib.MemoryObject.openFile(path, { writable: true });
        const mapping = object.map();
        const events: string[] = [];
        mapping.on('fault', (info) => events.push(`fault ${info.kind} ${info.cause} ${info.offset >> 12} ${info.write}`));
        mapping.on('revoked', () => events.push('revoked')).on('close', () => events.push('close'));
        fs.truncateSync(path, 4096);
        const settle = async (count: number): Promise<void> => {
          for (let i = 0; i < 10_000 && events.length < count; i++) await new Promise((resolve) => setTimeout(resolve, 2));
          await barrier();
        };
        void mapping.bytes[4096];
        void mapping.bytes[4096];
        mapping.bytes[2 * 4096] = 1;
        await settle(2);
        void mapping.bytes[4096];
        object.revokeSync();
        void mapping.bytes[3 * 4096];
        await settle(3);
        object.close();
        await settle(4);
        return { events, faults: mapping.faults };
      },
      { input: temporaryFile(4 * 4096) },
    );
    expect(run).toMatchObject({ status: 0, signal: null });
    expect((run.value as unknown as { events: string[] }).events).toEqual([
      'fault backing past-end 1 false',
      'fault backing past-end 2 true',
      'revoked',
      'close',
    ]);
  });

  test('L5 a backing fault that takes the object: one fault, one revocation', async () => {
    const run = await runInChild(
      async (lib, require, path) => {
        const fs = require('node:fs') as typeof import('node:fs');
        const { barrier } = require('./test/support/barrier.cjs') as typeof import('../support/barrier.cjs');
        const object = lib.MemoryObject.openFile(path, { writable: true, onBackingFault: 'object' });
        const [mapping, other] = [object.map(), object.map()];
        const events: string[] = [];
        for (const [name, one] of [
          ['mapping', mapping],
          ['other', other],
        ] as const) {
          one
            .on('fault', (info) => events.push(`${name} fault ${info.cause}`))
            .on('revoked', () => events.push(`${name} revoked`));
        }
        object.on('revoked', (error) => events.push(`object revoked ${(error.cause as { code: string }).code}`));
        fs.truncateSync(path, 0);
        const byte = mapping.bytes[0];
        for (let i = 0; i < 10_000 && events.length < 4; i++) await new Promise((resolve) => setTimeout(resolve, 2));
        await barrier();
        return { byte, events: events.sort(), states: [object.state, mapping.state, other.state] };
      },
      { input: temporaryFile(8192) },
    );
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(run.value).toEqual({
      byte: 0,
      events: ['mapping fault past-end', 'mapping revoked', 'object revoked ERR_BACKING_FAULT', 'other revoked'],
      states: ['revoked', 'revoked', 'revoked'],
    });
  });

  test('L5 an attached mapping in a thread has its events too, each once', async () => {
    const run = await runInChild(async (lib, require) => {
      const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
      const code = `const { parentPort, workerData } = require('node:worker_threads');
        const { Mapping } = require(${JSON.stringify(require.resolve('revocable-mmap'))});
        const mapping = Mapping.attach(workerData);
        for (const event of ['revoked', 'fault', 'close']) mapping.on(event, () => parentPort.postMessage('mapping ' + event));
        for (const event of ['revoked', 'suspended', 'resumed', 'close']) mapping.object.on(event, () => parentPort.postMessage('object ' + event));
        const { barrier } = require(${JSON.stringify(require.resolve('./test/support/barrier.cjs'))});
        parentPort.on('message', async (message) => {
          if (message === 'end') return parentPort.close();
          await barrier();
          parentPort.postMessage(message);
        });
        parentPort.postMessage('ready');`;
      const object = lib.MemoryObject.create({ size: 4096 });
      const mapping = object.map();
      const worker = new Worker(code, { eval: true, workerData: mapping.share() });
      const said: string[] = [];
      let passed: () => void;
      worker.on('message', (message: string) => void (message === 'barrier' ? passed() : said.push(message)));
      const heard = async (count: number): Promise<void> => {
        for (let i = 0; i < 10_000 && said.length < count; i++) await new Promise((resolve) => setTimeout(resolve, 2));
        await new Promise<void>((resolve) => {
          passed = resolve;
          worker.postMessage('barrier');
        });
      };
      await heard(1);
      await object.suspend();
      await heard(2);
      await object.resume();
      await heard(3);
      object.revokeSync();
      await heard(5);
      object.close();
      await heard(7);
      worker.postMessage('end');
      return { first: said.slice(0, 5), last: said.slice(5).sort() };
    });
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(run.value).toEqual({
      first: ['ready', 'object suspended', 'object resumed', 'object revoked', 'mapping revoked'],
      last: ['mapping close', 'object close'],
    });
  });

  test('L5 a listener that throws keeps no event from the others', async () => {
    const run = await runInChild(async (lib, require) => {
      const { barrier } = require('./test/support/barrier.cjs') as typeof import('../support/barrier.cjs');
      const errors: string[] = [];
      process.on('uncaughtException', (error) => errors.push(error.message));
      const object = lib.MemoryObject.create({ size: 4096 });
      const mappings = Array.from({ length: 5 }, () => object.map());
      const events: number[] = [];
      mappings.forEach((mapping, i) =>
        mapping.on('revoked', () => {
          events.push(i);
          if (i % 2 === 0) throw new Error(`listener ${i}`);
        }),
      );
      object.revokeSync();
      for (let i = 0; i < 10_000 && events.length < 5; i++) await new Promise((resolve) => setTimeout(resolve, 2));
      await barrier();
      return { events, errors };
    });
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(run.value).toEqual({ events: [0, 1, 2, 3, 4], errors: ['listener 0', 'listener 2', 'listener 4'] });
  });

  test('L5 the channel of revocations publishes one message for one revocation', async () => {
    const messages: { object: MemoryObject; report: { mappings: number } }[] = [];
    const onMessage = (message: unknown): void => void messages.push(message as (typeof messages)[0]);
    diagnosticsChannel.subscribe('revocable-mmap:revoke', onMessage);
    const object = MemoryObject.create({ size: 4096 });
    object.map();
    await Promise.all([object.revoke(), object.revoke()]);
    object.revokeSync();
    await until('it is published', () => messages.length > 0);
    await barrier();
    diagnosticsChannel.unsubscribe('revocable-mmap:revoke', onMessage);
    expect(messages.map((message) => [message.object, message.report.mappings])).toEqual([[object, 1]]);
    object.close();
  });
});
