import { once } from 'node:events';
import { closeSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { BackingFaultError, MappingRevokedError, MemoryObject, stats, type FaultInfo, type Mapping } from 'revocable-mmap';
import { barrier } from '../support/barrier.cjs';
import { runChild } from '../support/child.js';
import { testUnless, whyNoLoopDevice, whyNoMount } from '../support/conditions.js';
import { converse } from '../support/conversation.js';
import { kernel } from '../support/kernel-calls.js';
import { poison, whyNoPoison } from '../support/poison.js';
import { mountLoop, mountTmpfs } from '../support/mounts.js';
import { temporaryDirectory, temporaryFile } from '../support/temporary.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';

const PAGE = 4096;

/** Mappings whose events a test waits for: listeners do not keep a mapping (L5), and what only the wait refers to is collected. */
const held: Mapping[] = [];
afterEach(() => {
  held.length = 0;
});

/** A file of four pages that has become two, and its mapping. */
function truncated(options: { onBackingFault?: 'page' | 'object' } = {}) {
  const path = temporaryFile(4 * PAGE, 0x5a);
  const file = MemoryObject.openFile(path, { writable: true, ...options });
  const mapping = file.map();
  const second = file.map();
  truncateSync(path, 2 * PAGE);
  return { path, file, mapping, second };
}

describe('A7 backing faults: past the end of the file', () => {
  test('A7 only the pages that are gone are lost; the mapping stays live and counts them', () => {
    const { file, mapping } = truncated();
    const before = stats().faults.backing;
    expect(mapping.faults).toBe(0);
    expect(mapping.bytes[2 * PAGE]).toBe(0);
    expect(mapping.faults).toBe(1);
    expect(mapping.bytes[2 * PAGE + 1]).toBe(0);
    expect(mapping.faults).toBe(1);
    expect(thrownBy(() => mapping.read8(3 * PAGE + 7))).toMatchObject({
      name: 'BackingFaultError',
      code: 'ERR_BACKING_FAULT',
      cause: 'past-end',
      offset: 3 * PAGE + 7,
      objectOffset: 3 * PAGE + 7,
      address: mapping.address + BigInt(3 * PAGE + 7),
    });
    expect(mapping.faults).toBe(2);
    expect(stats().faults.backing - before).toBe(2);
    expect([mapping.state, file.state]).toEqual(['live', 'live']);
    expect(mapping.read8(0)).toBe(0x5a);
    mapping.write8(2 * PAGE - 1, 0x11);
    expect(mapping.read8(2 * PAGE - 1)).toBe(0x11);
    file.close();
  });

  test('A7 a lost page stays lost when the file grows back, also to raw views; pages that were not accessed are there again', () => {
    const { path, file, mapping, second } = truncated();
    expect(mapping.bytes[2 * PAGE]).toBe(0);
    mapping.bytes[2 * PAGE] = 0x77; // into the fill
    writeFileSync(path, Buffer.alloc(4 * PAGE, 0x66));
    expect(thrownBy(() => mapping.read8(2 * PAGE))).toMatchObject({ cause: 'past-end' });
    expect(thrownBy(() => mapping.write8(2 * PAGE, 1))).toMatchObject({ cause: 'past-end' });
    expect(mapping.bytes[2 * PAGE]).toBe(0x77);
    expect(mapping.read8(3 * PAGE)).toBe(0x66);
    expect(mapping.read8(0)).toBe(0x66);
    expect(second.read8(2 * PAGE)).toBe(0x66); // another mapping never lost it
    expect(readFileSync(path).every((byte) => byte === 0x66)).toBe(true);
    file.close();
  });

  test('A7 raw writes to a lost page are discarded', () => {
    const { path, file, mapping, second } = truncated();
    mapping.bytes[3 * PAGE] = 0x99;
    truncateSync(path, 4 * PAGE);
    expect(readFileSync(path)[3 * PAGE]).toBe(0);
    expect(second.bytes[3 * PAGE]).toBe(0);
    expect(mapping.bytes[3 * PAGE]).toBe(0x99);
    file.close();
  });

  test('A7 check() reports a lost page wherever it is, and one past the end that no thread has touched', () => {
    const { file, mapping } = truncated();
    expect(() => mapping.check({ offset: 0, length: PAGE })).not.toThrow();
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
    mapping.bytes[3 * PAGE] = 1;
    truncateSync(file.name, 4 * PAGE); // it has grown back: only the page that was touched stays lost
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end', offset: 3 * PAGE });
    file.close();
  });

  test('A7 the mapping and its object tell of every lost page, once, on a later turn', async () => {
    const { file, mapping, second } = truncated();
    const heard: [string, FaultInfo, Mapping?][] = [];
    mapping.on('fault', (info) => heard.push(['mapping', info]));
    second.on('fault', (info) => heard.push(['second', info]));
    file.on('fault', (info, of) => heard.push(['object', info, of]));
    for (let i = 0; i < 5; i++) mapping.bytes[2 * PAGE + 5] = i;
    expect(() => mapping.read8(3 * PAGE)).toThrow(BackingFaultError);
    expect(heard).toEqual([]);
    await until('the events of both pages have come', () => heard.length >= 4);
    await barrier();
    const first: FaultInfo = { kind: 'backing', cause: 'past-end', write: true, offset: 2 * PAGE + 5 };
    const other: FaultInfo = { kind: 'backing', cause: 'past-end', write: false, offset: 3 * PAGE };
    expect(heard).toEqual([
      ['mapping', first],
      ['object', first, mapping],
      ['mapping', other],
      ['object', other, mapping],
    ]);
    file.close();
  });

  test('A7 a mapping longer than its file, from the start on', () => {
    const path = temporaryFile(100, 0x5a);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map({ length: 3 * PAGE });
    expect([mapping.read8(99), mapping.read8(100), mapping.read8(PAGE - 1)]).toEqual([0x5a, 0, 0]); // the rest of the last page
    expect(thrownBy(() => mapping.read8(PAGE))).toMatchObject({ cause: 'past-end' });
    truncateSync(path, 3 * PAGE);
    mapping.write8(2 * PAGE, 0x31);
    expect(readFileSync(path)[2 * PAGE]).toBe(0x31);
    file.close();
  });

  test("A7 onBackingFault 'object' revokes all of it at the first lost page", async () => {
    const { file, mapping, second } = truncated({ onBackingFault: 'object' });
    held.push(mapping, second);
    const events: string[] = [];
    file.on('revoked', () => events.push('object'));
    mapping.on('revoked', () => events.push('mapping'));
    second.on('revoked', () => events.push('second'));
    expect(second.read8(0)).toBe(0x5a);
    expect(thrownBy(() => mapping.read8(2 * PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
    expect([file.state, mapping.state]).toEqual(['revoked', 'revoked']);
    await until('the other mapping is revoked too', () => second.state === 'revoked');
    const error = thrownBy(() => second.read8(0));
    expect(error).toBeInstanceOf(MappingRevokedError);
    expect(error.cause).toBeInstanceOf(BackingFaultError);
    expect(error.cause).toMatchObject({ cause: 'past-end' });
    expect(thrownBy(() => file.map())).toMatchObject({ code: 'ENODEV', errno: -19, syscall: 'mmap' });
    await until('all events have come', () => events.length >= 3);
    await barrier();
    expect(events.sort()).toEqual(['mapping', 'object', 'second']);
    expect(second.bytes[0]).toBe(0);
    file.close();
  });

  test('A7 a file that shrinks and grows all the time gives its bytes or the error, and kills no process', async () => {
    const path = join(temporaryDirectory(), 'file');
    const { status, signal, stdout, stderr } = await runChild('a7-shrink-and-grow.cjs', { args: [path, 1500] });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    const seen = JSON.parse(stdout) as {
      bytes: Record<string, true>;
      errors: Record<string, true>;
      lostStay: boolean;
      rounds: number;
    };
    expect(Object.keys(seen.bytes).filter((byte) => byte !== '0' && byte !== '90')).toEqual([]);
    expect(seen.errors).toEqual({ 'ERR_BACKING_FAULT past-end': true });
    expect(seen.lostStay).toBe(true);
    expect(seen.rounds).toBeGreaterThan(1);
  });
});

describe('A7 backing faults: no space', () => {
  const reason = whyNoMount();

  /** A full tmpfs with a file that is mostly holes, and how to make room. */
  function full() {
    const directory = mountTmpfs(64 * PAGE);
    const path = join(directory, 'sparse');
    writeFileSync(path, Buffer.alloc(PAGE, 0x5a));
    truncateSync(path, 32 * PAGE);
    const ballast = join(directory, 'ballast');
    const fd = openSync(ballast, 'w');
    expect(
      thrownBy(() => {
        for (;;) writeSync(fd, Buffer.alloc(PAGE));
      }),
    ).toMatchObject({ code: 'ENOSPC' });
    closeSync(fd);
    const file = MemoryObject.openFile(path, { writable: true });
    return { path, file, mapping: file.map(), makeRoom: () => rmSync(ballast) };
  }

  testUnless(reason, "A7 a checked write to a full tmpfs says 'no-space'; only that page is lost", () => {
    const { file, mapping, makeRoom } = full();
    const error = thrownBy(() => mapping.write32(8 * PAGE, 1));
    expect(error).toBeInstanceOf(BackingFaultError);
    expect(error).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'no-space', offset: 8 * PAGE });
    expect([mapping.state, mapping.faults]).toEqual(['live', 1]);
    expect(mapping.read8(0)).toBe(0x5a);
    makeRoom();
    mapping.write32(9 * PAGE, 7);
    expect(mapping.read32(9 * PAGE)).toBe(7);
    expect(thrownBy(() => mapping.write32(8 * PAGE, 1))).toMatchObject({ cause: 'no-space' });
    file.close();
  });

  testUnless(reason, "A7 a raw write to a full tmpfs completes, and an event says 'no-space'", async () => {
    const { file, mapping } = full();
    const heard: FaultInfo[] = [];
    mapping.on('fault', (info) => heard.push(info));
    mapping.bytes[8 * PAGE + 3] = 9;
    expect(mapping.bytes[8 * PAGE + 3]).toBe(9);
    await until('the event has come', () => heard.length > 0);
    expect(heard).toEqual([{ kind: 'backing', cause: 'no-space', write: true, offset: 8 * PAGE + 3 }]);
    expect(mapping.state).toBe('live');
    file.close();
  });

  testUnless(reason, 'A7 a bulk write stops at the page that has no space', () => {
    const { file, mapping } = full();
    const error = thrownBy(() => mapping.write(PAGE - 100, new Uint8Array(3 * PAGE).fill(0x44)));
    expect(error).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'no-space', bytesTransferred: 100, offset: PAGE });
    expect(mapping.read8(PAGE - 1)).toBe(0x44);
    file.close();
  });

  testUnless(whyNoLoopDevice(), "A7 a write fault on a page of a full disk that can be read says 'no-space'", () => {
    const { directory } = mountLoop(2 ** 22);
    const path = join(directory, 'sparse');
    writeFileSync(path, Buffer.alloc(PAGE, 0x5a));
    truncateSync(path, 64 * PAGE);
    const fd = openSync(join(directory, 'ballast'), 'w');
    for (const bytes of [65536, PAGE, 1024]) {
      expect(
        thrownBy(() => {
          for (;;) writeSync(fd, Buffer.alloc(bytes));
        }),
      ).toMatchObject({ code: 'ENOSPC' });
    }
    closeSync(fd);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map();
    expect(mapping.read8(32 * PAGE)).toBe(0); // a hole can be read
    expect(thrownBy(() => mapping.write8(32 * PAGE, 1))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'no-space' });
    expect(mapping.state).toBe('live');
    expect(mapping.read8(0)).toBe(0x5a);
    file.close();
  });
});

describe("A7 backing faults: onBackingFault 'object'", () => {
  test('A7 the rest of the object is revoked although the mapping that met the fault is closed at once', async () => {
    for (let round = 0; round < 50; round++) {
      const { file, mapping, second } = truncated({ onBackingFault: 'object' });
      held.push(second);
      const { bytes } = mapping;
      const replaced = once(second, 'revoked');
      const value = bytes[2 * PAGE];
      mapping.close(); // mostly before the service thread has come to it
      await replaced;
      expect([value, second.bytes[0], second.state, file.state]).toEqual([0, 0, 'revoked', 'revoked']);
      file.close();
    }
  });
});

describe('A7 backing faults: any other cause', () => {
  const reason = whyNoLoopDevice();

  // Beyond the largest folio: the page cache keeps one as a whole while a page of it is mapped.
  const FAR = 6 * 2 ** 20;

  /** A file whose disk is gone, of which this process has only the first page. */
  function onBrokenDisk(options: { onBackingFault?: 'page' | 'object' } = {}) {
    const disk = mountLoop(2 ** 26);
    const path = join(disk.directory, 'file');
    writeFileSync(path, Buffer.alloc(2 ** 23, 0x5a));
    const file = MemoryObject.openFile(path, options);
    const mapping = file.map();
    const second = file.map();
    mapping.advise('random'); // no reading ahead
    second.advise('random');
    second.prefetch({ offset: 0, length: PAGE });
    expect(second.read8(0)).toBe(0x5a);
    disk.breakDisk(); // what is cached and not mapped is dropped: of this file only the first page is left
    return { file, mapping, second };
  }

  testUnless(reason, "A7 a page whose disk is gone says 'unknown' and revokes the whole object", async () => {
    const { file, mapping, second } = onBrokenDisk();
    held.push(mapping);
    const heard: FaultInfo[] = [];
    mapping.on('fault', (info) => heard.push(info));
    const error = thrownBy(() => mapping.read8(FAR));
    expect(error).toBeInstanceOf(BackingFaultError);
    expect(error).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'unknown', offset: FAR });
    expect([file.state, mapping.state]).toEqual(['revoked', 'revoked']);
    await until('the other mapping is revoked', () => second.state === 'revoked');
    const other = thrownBy(() => second.read8(0));
    expect(other).toBeInstanceOf(MappingRevokedError);
    expect(other.cause).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'unknown' });
    await until('the event has come', () => heard.length > 0);
    expect(heard).toEqual([{ kind: 'backing', cause: 'unknown', write: false, offset: FAR }]);
    expect(thrownBy(() => file.map())).toMatchObject({ code: 'ENODEV' });
    file.close();
  });

  testUnless(
    reason,
    'A7 a raw access to it reads the fill; then everything is revoked, also pages that were cached',
    async () => {
      const { file, mapping, second } = onBrokenDisk();
      held.push(second);
      // Their states follow the gate, which shuts first; the event comes when the memory has been taken away.
      const replaced = once(second, 'revoked');
      expect(second.bytes[0]).toBe(0x5a);
      expect(mapping.bytes[FAR]).toBe(0);
      expect(mapping.bytes[0]).toBe(0);
      expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      await replaced;
      expect(second.bytes[0]).toBe(0);
      file.close();
    },
  );

  testUnless(reason, "A7 onBackingFault 'page' loses the page only", () => {
    const { file, mapping, second } = onBrokenDisk({ onBackingFault: 'page' });
    for (const at of [FAR, FAR + 5 * PAGE]) {
      expect(thrownBy(() => mapping.read8(at))).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'unknown', offset: at });
    }
    expect([file.state, mapping.state, mapping.faults]).toEqual(['live', 'live', 2]);
    expect([second.read8(0), mapping.read8(0)]).toEqual([0x5a, 0x5a]); // still cached
    file.close();
  });

  // Poison set by userfaultfd looks to the process as memory that the hardware reports as broken does. Kernels built without
  // CONFIG_MEMORY_FAILURE give no more than SIGBUS.
  function poisoned(options: { onBackingFault?: 'page' | 'object' } = {}) {
    const fd = kernel.memfd(4 * PAGE);
    writeSync(fd, Buffer.alloc(4 * PAGE, 0x5a));
    const memory = MemoryObject.fromFd(fd, { writable: true, ...options });
    closeSync(fd);
    const mapping = memory.map();
    poison(mapping.address + BigInt(PAGE));
    return { memory, mapping };
  }

  const noPoison = whyNoPoison();

  testUnless(noPoison, 'A7 a poisoned page is a backing fault inside the file', () => {
    const { memory, mapping } = poisoned();
    expect(mapping.read8(0)).toBe(0x5a);
    const error = thrownBy(() => mapping.read8(PAGE + 1));
    expect(error).toBeInstanceOf(BackingFaultError);
    expect(['poisoned', 'unknown']).toContain(error.cause);
    // Broken memory takes the page, what is not known takes the object.
    expect(mapping.state).toBe(error.cause === 'poisoned' ? 'live' : 'revoked');
    memory.close();
  });

  testUnless(noPoison, 'A7 a copy that meets a poisoned page first ends there, for the same reason', async () => {
    const known = poisoned();
    const { cause } = thrownBy(() => known.mapping.read8(PAGE + 1)) as { cause?: unknown };
    known.memory.close();
    for (const method of ['read', 'write', 'readAsync', 'writeAsync'] as const) {
      const { memory, mapping } = poisoned();
      const error = await rejectionOf((async () => mapping[method](PAGE - 100, new Uint8Array(200)))());
      expect(error).toMatchObject({ code: 'ERR_BACKING_FAULT', cause, bytesTransferred: 100, offset: PAGE });
      expect(mapping.state).toBe(cause === 'poisoned' ? 'live' : 'revoked');
      memory.close();
    }
  });

  testUnless(noPoison, "A7 a poisoned page with onBackingFault 'page' is lost, its neighbours are not", () => {
    const { memory, mapping } = poisoned({ onBackingFault: 'page' });
    expect(mapping.bytes[PAGE]).toBe(0);
    expect(thrownBy(() => mapping.read8(PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT' });
    expect([mapping.read8(PAGE - 1), mapping.read8(2 * PAGE), mapping.state]).toEqual([0x5a, 0x5a, 'live']);
    memory.close();
  });

  testUnless(noPoison, "A7 a poisoned page with onBackingFault 'object' revokes everything", async () => {
    const { memory, mapping } = poisoned({ onBackingFault: 'object' });
    const second = memory.map();
    expect(mapping.bytes[PAGE]).toBe(0);
    expect(mapping.state).toBe('revoked');
    await until('the other mapping is revoked', () => second.state === 'revoked');
    memory.close();
  });
});

describe('A7 a revocation by another process is a revocation, not a backing fault', () => {
  test.each([
    { touch: 'checked', first: 'ERR_MAPPING_REVOKED' },
    { touch: 'checked write', first: 'ERR_MAPPING_REVOKED' },
    { touch: 'bulk', first: 'ERR_MAPPING_REVOKED' },
    { touch: 'check', first: 'ERR_MAPPING_REVOKED' },
    { touch: 'prefetch', first: 'ERR_MAPPING_REVOKED' },
    { touch: 'raw', first: 0 },
    { touch: 'raw write', first: undefined },
  ])('A7 another process sees MappingRevokedError at a $touch touch', async ({ touch, first }) => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const mapping = memory.map();
    mapping.write32(PAGE, 4711);
    const peer = converse('a7-peer.cjs', { args: [touch], fds: [memory.fd] });
    try {
      expect(await peer.hear()).toBe(4711);
      memory.revokeSync();
      peer.say('revoked');
      expect(await peer.hear()).toEqual({
        first,
        touched: 'ERR_MAPPING_REVOKED',
        events: [['revoked', 'ERR_MAPPING_REVOKED', null]],
        states: ['revoked', 'revoked'],
        map: 'ENODEV',
        raw: touch.endsWith('write') ? 1 : 0, // a write that throws has landed in the fill
      });
    } finally {
      expect(await peer.end()).toEqual({ status: 0, signal: null, stderr: '' });
    }
    memory.close();
  });
});
