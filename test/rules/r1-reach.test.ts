import { readFileSync, readSync } from 'node:fs';
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { runChild, runInChild } from '../support/child.js';
import { converse } from '../support/conversation.js';
import { temporaryFile } from '../support/temporary.js';

const REVOKED = expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' });

describe('R1 revocation reaches every mapping', () => {
  describe.each(['checked', 'raw', 'write'])('in another process, which touches it first by a %s access', (touch) => {
    test('R1 a process that holds the memory loses it too', async () => {
      const memory = MemoryObject.create({ size: 8192 });
      const mapping = memory.map();
      mapping.write32(0, 0xcafe);
      mapping.write32(4096, 0xbeef);
      const child = converse('r1-holder.cjs', { args: [touch], fds: [memory.fd] });
      expect(await child.hear()).toEqual({ word: 0xcafe, other: 0xbeef });
      const report = await memory.revoke();
      expect(report.means.truncated).toBe(true);
      child.say('look');
      const seen = await child.hear<Record<string, unknown>>();
      expect(await child.end()).toMatchObject({ status: 0, signal: null });
      const first = { checked: 'ERR_MAPPING_REVOKED', raw: 0xffffffff, write: undefined }[touch];
      expect(seen.first).toBe(first);
      expect(seen).toMatchObject({
        events: 1,
        state: 'revoked',
        checked: 'ERR_MAPPING_REVOKED',
        untouchedRaw: 0xffffffff,
        untouchedChecked: 'ERR_MAPPING_REVOKED',
        map: 'ENODEV',
        bytesOfFile: 0,
      });
      // What it wrote, it wrote into its own fill.
      expect(seen.raw).toBe(touch === 'write' ? 0xbad : 0xffffffff);
      memory.close();
    });
  });

  test('R1 a process without the library loses it too, and has SIGBUS to show for it', async () => {
    const memory = MemoryObject.create({ size: 4096 });
    memory.map().write32(0, 0xcafe);
    const child = converse('r1-stranger.cjs', { fds: [memory.fd] });
    expect(await child.hear()).toEqual({ word: 0xcafe });
    memory.revokeSync();
    child.say('look');
    expect(await child.end()).toMatchObject({ status: null, signal: 'SIGBUS' });
    memory.close();
  });

  test('R1 the descriptor shows nothing of it either', () => {
    const memory = MemoryObject.create({ size: 4096 });
    memory.map().write32(0, 0xcafe);
    const bytes = Buffer.alloc(4096);
    expect(readSync(memory.fd, bytes, 0, 4096, 0)).toBe(4096);
    memory.revokeSync();
    expect(readSync(memory.fd, bytes, 0, 4096, 0)).toBe(0);
    memory.close();
  });

  test.each([['owned'], ['not owned']])('R1 every kind of mapping of an object that is %s is reached', async (kind) => {
    const run = await runInChild(
      (lib, _require, owned) => {
        const device = lib.MemoryObject.create({ size: 5 * 4096 });
        const object = owned ? device : lib.MemoryObject.fromFd(device.fd, { writable: true });
        const fill = device.map();
        for (let page = 0; page < 5; page++) fill.write32(4096 * page, 0x1000 + page);
        const mappings: Mapping[] = [
          object.map(),
          object.map({ access: 'r' }),
          object.map({ shared: false }),
          object.map({ private: true }),
          object.map({ offset: 4096, length: 5000 }),
          object.map({ fill: 'ones', populate: true }),
        ];
        const copied = object.map({ private: true });
        copied.write32(0, 0x1234); // its own copy of the page: to be taken away like any other
        const rearranged = object.map();
        rearranged.remapPages({ offset: 0, length: 4096, objectOffset: 3 * 4096 });
        mappings.push(copied, rearranged);
        const before = mappings.map((mapping) => mapping.read32(0));
        const report = object.revokeSync();
        const raw = mappings.map((mapping) => mapping.view.getUint32(0, true));
        const checked = mappings.map((mapping) => {
          try {
            return mapping.read32(0);
          } catch (error) {
            return (error as { code: string }).code;
          }
        });
        return { before, raw, checked, mappings: report.mappings, truncated: report.means.truncated };
      },
      { input: kind === 'owned' },
    );
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(run.value).toEqual({
      before: [0x1000, 0x1000, 0x1000, 0x1000, 0x1001, 0x1000, 0x1234, 0x1003],
      raw: [0, 0, 0, 0, 0, 0xffffffff, 0, 0],
      checked: Array.from({ length: 8 }, () => 'ERR_MAPPING_REVOKED'),
      mappings: kind === 'owned' ? 9 : 8,
      truncated: kind === 'owned',
    });
  });

  test('R1 a mapping that was only collected, not closed, is reached while a view of it lives', async () => {
    const run = await runInChild(
      async (lib) => {
        const device = lib.MemoryObject.create({ size: 4096 });
        const witness = device.map();
        const object = lib.MemoryObject.fromFd(device.fd, { writable: true });
        const keepTheView = (): [WeakRef<Mapping>, Uint8Array] => {
          const mapping = object.map();
          mapping.write32(0, 0xcafe);
          return [new WeakRef(mapping), mapping.bytes];
        };
        const [gone, view] = keepTheView();
        for (const end = Date.now() + 20_000; gone.deref() !== undefined && Date.now() < end;) {
          await new Promise((resolve) => setImmediate(resolve));
          globalThis.gc!();
        }
        const before = view[0];
        object.revokeSync();
        const after = view[0];
        view[0] = 1;
        return { collected: gone.deref() === undefined, before, after, memory: witness.read32(0) };
      },
      { nodeArgs: ['--expose-gc'] },
    );
    expect(run).toMatchObject({ status: 0, signal: null });
    expect(run.value).toEqual({ collected: true, before: 0xfe, after: 0, memory: 0xcafe });
  });

  test('R1 no thread of this process reaches the old memory once revoke has returned', async () => {
    const run = await runChild('r1-threads.cjs');
    expect(run).toMatchObject({ status: 0, signal: null });
    const { seen, before, after, ...rest } = JSON.parse(run.stdout) as {
      seen: { stale: number; checkedStale: number; live: number; codes: Record<string, number> }[];
      before: number[];
      after: number[];
    };
    expect(rest).toEqual({ replaced: 1, truncated: false, canary: 0x600dcafe });
    for (const thread of seen) {
      expect(thread).toMatchObject({ stale: 0, checkedStale: 0, codes: { ERR_MAPPING_REVOKED: 5000 } });
    }
    expect(seen.some((thread) => thread.live > 0)).toBe(true);
    expect(before.some((writes) => writes > 0)).toBe(true);
    expect(after).toEqual(before); // not one write landed since
  });

  test('R1 of a file the mappings are taken, not the contents', () => {
    const path = temporaryFile(8192, 0x5a);
    const object = MemoryObject.openFile(path, { writable: true });
    const mapping = object.map();
    mapping.write32(0, 0x01020304);
    const report = object.revokeSync();
    expect(report.means).toEqual({ truncated: false, replaced: 1, protected: 0, failed: 0 });
    expect(() => mapping.write32(4, 1)).toThrow(REVOKED);
    const contents = readFileSync(path);
    expect(contents.length).toBe(8192);
    expect(contents.readUInt32LE(0)).toBe(0x01020304);
    expect(contents.readUInt32LE(4)).toBe(0x5a5a5a5a);
    object.close();
  });
});
