import diagnosticsChannel from 'node:diagnostics_channel';
import { once } from 'node:events';
import { truncateSync } from 'node:fs';
import { inspect } from 'node:util';
import { runInNewContext } from 'node:vm';
import {
  AccessError,
  BackingFaultError,
  isRevokedError,
  MappingClosedError,
  MappingRevokedError,
  MappingSuspendedError,
  MemoryObject,
  ProtectedPageError,
  ReadOnlyMappingError,
} from 'revocable-mmap';
import { barrier } from './support/barrier.cjs';
import { runInChild } from './support/child.js';
import { temporaryFile } from './support/temporary.js';
import { rejectionOf, thrownBy } from './support/thrown.js';
import { until } from './support/until.js';

const PAGE = 4096;

describe('errors', () => {
  test('every error of an access has its class, name, code and place', async () => {
    const path = temporaryFile(2 * PAGE);
    const file = MemoryObject.openFile(path);
    const lost = file.map();
    truncateSync(path, PAGE);
    const memory = MemoryObject.create({ size: 2 * PAGE, name: 'ring' });
    const mapping = memory.map();
    mapping.protect({ offset: PAGE, length: PAGE, access: 'none' });
    const errors = {
      backing: thrownBy(() => lost.read8(PAGE)),
      closedPage: thrownBy(() => mapping.read32(PAGE + 4)),
      readOnly: thrownBy(() => memory.map({ access: 'r' }).write8(1, 1)),
    } as Record<string, Error>;
    await memory.suspend();
    errors.suspended = thrownBy(() => mapping.read32(8));
    errors.map = thrownBy(() => memory.map());
    await memory.resume();
    memory.revokeSync();
    errors.revoked = thrownBy(() => mapping.read32(8));
    memory.close();
    errors.closed = thrownBy(() => mapping.read32(8));

    const expected = {
      backing: [
        BackingFaultError,
        'BackingFaultError',
        'ERR_BACKING_FAULT',
        PAGE,
        `${path}: the page is past the end of the file at offset 4096`,
      ],
      closedPage: [
        ProtectedPageError,
        'ProtectedPageError',
        'ERR_MAPPING_PROTECTED',
        PAGE + 4,
        'ring: the page is protected at offset 4100',
      ],
      readOnly: [
        ReadOnlyMappingError,
        'ReadOnlyMappingError',
        'ERR_MAPPING_READ_ONLY',
        1,
        'ring: the mapping is read-only at offset 1',
      ],
      suspended: [
        MappingSuspendedError,
        'MappingSuspendedError',
        'ERR_MAPPING_SUSPENDED',
        8,
        'ring: the mapping is suspended at offset 8',
      ],
      map: [MappingSuspendedError, 'MappingSuspendedError', 'ERR_MAPPING_SUSPENDED', undefined, 'ring: the mapping is suspended'],
      revoked: [
        MappingRevokedError,
        'MappingRevokedError',
        'ERR_MAPPING_REVOKED',
        8,
        'ring: the mapping has been revoked at offset 8',
      ],
      closed: [MappingClosedError, 'MappingClosedError', 'ERR_MAPPING_CLOSED', 8, 'ring: the mapping is closed at offset 8'],
    } as const;
    for (const [name, [Class, className, code, offset, message]] of Object.entries(expected)) {
      const error = errors[name];
      expect(error).toBeInstanceOf(Class);
      expect(error).toBeInstanceOf(AccessError);
      expect(error).toBeInstanceOf(Error);
      expect(error).toMatchObject({ name: className, code, message });
      expect((error as AccessError).offset).toBe(offset);
      expect(error.stack).toContain(message);
      expect(inspect(error)).toContain(code);
    }
    file.close();
  });

  test('isRevokedError knows a revocation of any realm, and nothing else', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    memory.revokeSync();
    expect(isRevokedError(thrownBy(() => mapping.read8(0)))).toBe(true);
    expect(isRevokedError(runInNewContext(`Object.assign(new Error('gone'), { code: 'ERR_MAPPING_REVOKED' })`))).toBe(true);
    memory.close();
    expect(isRevokedError(thrownBy(() => mapping.read8(0)))).toBe(false);
    for (const value of [undefined, null, 'ERR_MAPPING_REVOKED', 5, {}, new Error('ERR_MAPPING_REVOKED'), { code: 'ENODEV' }]) {
      expect(isRevokedError(value)).toBe(false);
    }
  });
});

describe('events', () => {
  test('an object tells of suspension, resumption, revocation and close, each on a later turn, in order', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    const heard: string[] = [];
    for (const name of ['suspended', 'resumed', 'revoked', 'close'] as const) memory.on(name, () => heard.push(name));
    for (const name of ['revoked', 'close'] as const) mapping.on(name, () => heard.push(`mapping ${name}`));
    await memory.suspend();
    await until('the event has come', () => heard.length === 1);
    await memory.resume();
    await until('the event has come', () => heard.length === 2);
    memory.revokeSync();
    expect(heard).toHaveLength(2);
    await until('the event has come', () => heard.length === 4);
    memory.close();
    expect(heard).toHaveLength(4);
    await until('the event has come', () => heard.length === 6);
    memory.close();
    mapping.close();
    await barrier();
    expect(heard.slice(0, 2)).toEqual(['suspended', 'resumed']);
    expect(heard.slice(2, 4).sort()).toEqual(['mapping revoked', 'revoked']);
    expect(heard.slice(4).sort()).toEqual(['close', 'mapping close']);
  });

  test('close is no revocation, and nothing comes after it', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map({ access: 'r' });
    const heard: string[] = [];
    mapping.on('fault', () => heard.push('fault'));
    mapping.on('revoked', () => heard.push('revoked'));
    mapping.on('close', () => heard.push('close'));
    mapping.close();
    memory.revokeSync();
    await until('the event has come', () => heard.length > 0);
    await barrier();
    expect(heard).toEqual(['close']);
    memory.close();
  });

  test('what a listener throws is its own matter: the others are called', async () => {
    const { status, signal, value } = await runInChild(async ({ MemoryObject }) => {
      const uncaught: string[] = [];
      process.on('uncaughtException', (error) => uncaught.push(error.message));
      const memory = MemoryObject.create({ size: 4096 });
      const mappings = [memory.map(), memory.map(), memory.map()];
      let heard = 0;
      for (const [i, mapping] of mappings.entries()) {
        mapping.on('revoked', () => {
          heard++;
          throw new Error(`listener ${i}`);
        });
      }
      memory.revokeSync();
      for (let i = 0; i < 10_000 && heard < mappings.length; i++) await new Promise((resolve) => setTimeout(resolve, 2));
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
      return { heard, uncaught };
    });
    expect({ status, signal }).toEqual({ status: 0, signal: null });
    expect(value).toEqual({ heard: 3, uncaught: ['listener 0', 'listener 1', 'listener 2'] });
  });

  test('events.once works with them', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    const [objectSays, mappingSays] = [once(memory, 'revoked'), once(mapping, 'revoked')];
    memory.revokeSync('why');
    expect(await objectSays).toEqual([expect.objectContaining({ code: 'ERR_MAPPING_REVOKED', cause: 'why' })]);
    expect(await mappingSays).toEqual([expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' })]);
    memory.close();
  });
});

describe('AbortSignal', () => {
  test('signal is aborted by revoke, with the MappingRevokedError as its reason', async () => {
    const memory = MemoryObject.create({ size: PAGE, name: 'ring' });
    const { signal } = memory;
    expect(memory.signal).toBe(signal);
    const wait = rejectionOf(once(memory, 'never', { signal }));
    expect(signal.aborted).toBe(false);
    memory.revokeSync('unplugged');
    await until('the signal is aborted', () => signal.aborted);
    expect(signal.reason).toBeInstanceOf(MappingRevokedError);
    expect(signal.reason).toMatchObject({ object: 'ring', cause: 'unplugged' });
    expect((await wait).cause).toBe(signal.reason);
    memory.close();
  });

  test('asked for after the revocation it is aborted already', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    await memory.revoke();
    expect(memory.signal.aborted).toBe(true);
    expect(isRevokedError(memory.signal.reason)).toBe(true);
    memory.close();
  });

  test('neither suspend nor close aborts it', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const { signal } = memory;
    await memory.suspend();
    await memory.resume();
    memory.close();
    await barrier();
    expect(signal.aborted).toBe(false);
  });
});

describe('diagnostics channels', () => {
  test('map, revoke, fault and close are published, with what they are about', async () => {
    const seen: [string, any][] = [];
    const names = ['map', 'revoke', 'fault', 'close'].map((name) => `revocable-mmap:${name}`);
    const listener = (message: unknown, name: string | symbol): void => void seen.push([String(name), message]);
    for (const name of names) diagnosticsChannel.subscribe(name, listener);
    try {
      const memory = MemoryObject.create({ size: 2 * PAGE });
      const mapping = memory.map();
      expect(seen).toEqual([['revocable-mmap:map', { mapping, object: memory }]]);
      const report = memory.revokeSync();
      memory.revokeSync(); // emitted once
      expect(seen.slice(1)).toEqual([['revocable-mmap:revoke', { object: memory, report }]]);
      expect(mapping.bytes[5]).toBe(0);
      await until('the fault is published', () => seen.length === 3);
      expect(seen[2]).toEqual(['revocable-mmap:fault', { mapping, kind: 'revoked', cause: 'none', write: false, offset: 5 }]);
      memory.close();
      await until('the closes are published', () => seen.length >= 5);
      await barrier();
      expect(seen.slice(3).map(([name]) => name)).toEqual(['revocable-mmap:close', 'revocable-mmap:close']);
      const closed = seen.slice(3).map(([, message]) => message as { mapping?: unknown; object?: unknown });
      expect(closed.some((message) => message.mapping === mapping)).toBe(true);
      expect(closed.some((message) => message.mapping === undefined && message.object === memory)).toBe(true);
    } finally {
      for (const name of names) diagnosticsChannel.unsubscribe(name, listener);
    }
  });

  const program = (lib: typeof import('revocable-mmap'), require: NodeJS.Require): void => {
    const memory = lib.MemoryObject.create({ size: 4096, name: 'debugged' });
    const mapping = memory.map();
    memory.revokeSync();
    // The fault event is emitted on a later turn. Nothing else keeps the process alive until then.
    const waiting = setTimeout(() => {
      throw new Error('the fault is not published');
    }, 20_000);
    require('node:diagnostics_channel').subscribe('revocable-mmap:fault', () => {
      clearTimeout(waiting);
      setImmediate(() => {
        memory.close();
        if (mapping.state !== 'closed') throw new Error(mapping.state); // it is held until here
      });
    });
    if (mapping.bytes[7] !== 0) throw new Error('no fill');
  };

  test('NODE_DEBUG=revocable-mmap prints them', async () => {
    const { status, stderr } = await runInChild(program, { env: { NODE_DEBUG: 'revocable-mmap' } });
    expect(status).toBe(0);
    const lines = stderr.split('\n').filter((line) => /^REVOCABLE-MMAP \d+: /.test(line));
    expect(lines.map((line) => /: (map|revoke|fault|close)\b/.exec(line)![1])).toEqual([
      'map',
      'revoke',
      'fault',
      expect.stringMatching('close'),
      expect.stringMatching('close'),
    ]);
    expect(stderr).toContain('Mapping <debugged +0 4096 B rw shared');
    expect(stderr).toContain("kind: 'revoked'");
  });

  test('without it nothing is printed', async () => {
    expect(await runInChild(program, { env: { NODE_DEBUG: 'http' } })).toMatchObject({ status: 0, stderr: '' });
  });
});

describe('util.inspect', () => {
  test('a mapping and an object are one line, in every state', async () => {
    const memory = MemoryObject.create({ size: 2 * PAGE, name: 'ring' });
    const mapping = memory.map({ offset: PAGE, length: 100 });
    const other = memory.map({ access: 'r', shared: false });
    expect(inspect(mapping)).toBe('Mapping <ring +4096 100 B rw shared live>');
    expect(inspect(other)).toBe('Mapping <ring +0 8192 B r shared live>');
    expect(inspect(memory)).toBe('MemoryObject <ring 8192 B owned live>');
    await memory.suspend();
    expect([inspect(mapping), inspect(memory)]).toEqual([
      'Mapping <ring +4096 100 B rw shared suspended>',
      'MemoryObject <ring 8192 B owned suspended>',
    ]);
    await memory.resume();
    memory.revokeSync();
    expect([inspect(mapping), inspect(memory)]).toEqual([
      'Mapping <ring +4096 100 B rw shared revoked>',
      'MemoryObject <ring 8192 B owned revoked>',
    ]);
    memory.close();
    expect([inspect(mapping), inspect(memory)]).toEqual([
      'Mapping <ring +4096 100 B rw shared closed>',
      'MemoryObject <ring owned closed>',
    ]);
    const path = temporaryFile(10);
    const file = MemoryObject.openFile(path);
    expect(inspect({ file, mapping: file.map({ private: true }) }, { breakLength: Infinity })).toBe(
      `{ file: MemoryObject <${path} 10 B not owned live>, mapping: Mapping <${path} +0 10 B r private live> }`,
    );
    file.close();
    expect(String(mapping)).toBe('[object Mapping]');
    expect(String(memory)).toBe('[object MemoryObject]');
  });
});

describe('stats()', () => {
  // In a process of its own: here what earlier tests have forgotten may be collected in the middle of it.
  test('every count changes by what was done, and by nothing else', async () => {
    const { status, stderr, value } = await runInChild(
      async ({ MemoryObject, stats }, require, path) => {
        const { truncateSync } = require('node:fs') as typeof import('node:fs');
        const PAGE = 4096;
        /** The counts by dotted names. */
        const flat = (value: object, prefix = ''): [string, number][] =>
          Object.entries(value).flatMap(([key, item]) =>
            typeof item === 'number' ? [[prefix + key, item] as [string, number]] : flat(item as object, `${prefix}${key}.`),
          );
        let last = new Map(flat(stats()));
        const seen: [string, Record<string, number>][] = [];
        /** Writes down what has changed since. */
        const note = (what: string): void => {
          const now = flat(stats());
          const changed = now.map(([key, item]) => [key, item - last.get(key)!] as const).filter(([, change]) => change !== 0);
          seen.push([what, Object.fromEntries(changed)]);
          last = new Map(now);
        };
        const memory = MemoryObject.create({ size: PAGE });
        note('create');
        const [one, two] = [memory.map(), memory.map()];
        note('map');
        await memory.suspend();
        note('suspend');
        const bytes = [one.bytes[0]];
        note('touch');
        await memory.resume();
        note('resume');
        memory.revokeSync();
        memory.revokeSync();
        note('revoke');
        bytes.push(one.bytes[0], one.bytes[1], two.bytes[0]);
        note('touch both');
        memory.close();
        note('close');

        const file = MemoryObject.openFile(path);
        const mapping = file.map();
        truncateSync(path, PAGE);
        note('a truncated file');
        bytes.push(mapping.bytes[PAGE]);
        note('touch its end');
        mapping.bytes[0] = 1;
        const { 'faults.protection': forbidden } = (note('forbidden write'), seen.pop()![1]);
        for (const end = Date.now() + 20_000; mapping.bytes[0] !== 0x5a && Date.now() < end;)
          await new Promise((resolve) => setTimeout(resolve, 1)); // the page comes back
        bytes.push(mapping.bytes[0]);
        const other = file.map({ length: 2 * PAGE });
        note('meanwhile');
        seen.pop();
        let transferred;
        try {
          other.read(0, new Uint8Array(2 * PAGE));
        } catch (error) {
          transferred = (error as { bytesTransferred: number }).bytesTransferred;
        }
        const { 'faults.checked': checked } = (note('checked read'), seen.pop()![1]);
        file.close();
        note('close the file');
        return { seen, bytes, transferred, forbidden: forbidden > 0, checked: checked > 0 };
      },
      { input: temporaryFile(2 * PAGE) },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(value).toEqual({
      seen: [
        ['create', {}],
        ['map', { 'mappings.live': 2 }],
        ['suspend', { suspends: 1, 'mappings.live': -2, 'mappings.suspended': 2 }],
        ['touch', { 'faults.suspended': 1, fills: 1 }],
        ['resume', { resumes: 1, 'mappings.live': 2, 'mappings.suspended': -2 }],
        ['revoke', { revokes: 1, 'mappings.live': -2, 'mappings.revoked': 2 }],
        ['touch both', { 'faults.revoked': 2, fills: 2 }],
        ['close', { 'mappings.revoked': -2, 'mappings.closed': 2 }],
        ['a truncated file', { 'mappings.live': 1 }],
        ['touch its end', { 'faults.backing': 1, fills: 1 }],
        ['close the file', expect.objectContaining({ 'mappings.live': -2, 'mappings.closed': 2 })],
      ],
      bytes: [0, 0, 0, 0, 0, 0x5a],
      transferred: PAGE,
      forbidden: true,
      checked: true,
    });
  });

  test('it counts over all threads', async () => {
    const { value } = await runInChild(async (lib, require) => {
      const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
      const before = lib.stats().mappings.live;
      const worker = new Worker(
        `const { MemoryObject } = require('revocable-mmap'); const { parentPort } = require('node:worker_threads');
         const memory = MemoryObject.create({ size: 4096 }); globalThis.kept = [memory.map(), memory.map()];
         parentPort.on('message', () => { memory.close(); parentPort.close(); }); parentPort.postMessage('mapped');`,
        { eval: true },
      );
      await new Promise((resolve) => worker.once('message', resolve));
      const during = lib.stats().mappings.live;
      worker.postMessage('end');
      await new Promise((resolve) => worker.once('exit', resolve));
      return [during - before, lib.stats().mappings.live - before];
    });
    expect(value).toEqual([2, 0]);
  });

  test('signals that were passed on, and events that were too many', async () => {
    const { value, signal, status } = await runInChild(async (lib) => {
      process.on('SIGBUS', () => undefined);
      lib.MemoryObject.create({ size: 4096 }).map();
      process.kill(process.pid, 'SIGBUS');
      for (let end = Date.now() + 20_000; lib.stats().foreignSignals === 0 && Date.now() < end;)
        await new Promise((resolve) => setTimeout(resolve, 1));
      // More faults in one turn than the ring of events has room for.
      const memory = lib.MemoryObject.create({ size: 4096 });
      const mappings = Array.from({ length: 20000 }, () => memory.map());
      let heard = 0;
      for (const mapping of mappings) mapping.on('revoked', () => heard++);
      memory.revokeSync();
      let sum = 0;
      for (const mapping of mappings) sum += mapping.bytes[0];
      for (let end = Date.now() + 30_000; heard < mappings.length && Date.now() < end;)
        await new Promise((resolve) => setTimeout(resolve, 5));
      const { foreignSignals, eventsDropped, faults } = lib.stats();
      return { sum, foreignSignals, dropped: eventsDropped > 0, heard, revoked: faults.revoked };
    });
    expect({ status, signal }).toEqual({ status: 0, signal: null });
    expect(value).toEqual({ sum: 0, foreignSignals: 1, dropped: true, heard: 20000, revoked: 20000 });
  });
});
