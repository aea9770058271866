import { runInChild } from '../support/child.js';
import { temporaryFile } from '../support/temporary.js';

const PAGE = 4096;
const DIED_OF_SIGBUS = { status: null, signal: 'SIGBUS' }; // what a shell calls 135

describe("A3 the fill 'signal' leaves SIGBUS deadly", () => {
  test.each(['read', 'write'])('A3 a raw %s of a revoked mapping kills the process', async (kind) => {
    const { status, signal, stdout } = await runInChild(
      ({ MemoryObject }, _require, input) => {
        const memory = MemoryObject.create({ size: 8192 });
        const mapping = memory.map({ fill: 'signal' });
        mapping.bytes[5000] = 3;
        console.log(`live ${mapping.bytes[5000]}`);
        memory.revokeSync();
        console.log(`revoked ${mapping.state}`);
        if (input === 'read') console.log('survived', mapping.bytes[5000]);
        else mapping.bytes[5000] = 1;
        console.log('survived');
      },
      { input: kind },
    );
    expect({ status, signal }).toEqual(DIED_OF_SIGBUS);
    expect(stdout).toBe('live 3\nrevoked revoked\n');
  });

  test('A3 checked accessors throw nevertheless, and the process lives', async () => {
    const { status, signal, value, stderr } = await runInChild(({ MemoryObject }) => {
      const memory = MemoryObject.create({ size: 8192 });
      const mapping = memory.map({ fill: 'signal' });
      mapping.write32(4096, 0x1234);
      mapping.write64(8, 7n);
      const live = [mapping.read32(4096), mapping.read8(4096), mapping.read16(4096), Number(mapping.read64(8))];
      memory.revokeSync();
      const accesses: (() => unknown)[] = [
        () => mapping.read8(0),
        () => mapping.read16(0),
        () => mapping.read32(0),
        () => mapping.read64(0),
        () => mapping.write8(0, 1),
        () => mapping.write16(0, 1),
        () => mapping.write32(0, 1),
        () => mapping.write64(0, 1n),
        () => mapping.read(0, new Uint8Array(64)),
        () => mapping.write(0, new Uint8Array(64)),
        () => mapping.check(),
      ];
      const codes = accesses.map((access) => {
        try {
          access();
          return 'nothing';
        } catch (error) {
          return (error as { code: string }).code;
        }
      });
      return { live, codes };
    });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    expect(value).toEqual({ live: [0x1234, 0x34, 0x1234, 7], codes: Array(11).fill('ERR_MAPPING_REVOKED') });
  });

  test('A3 a checked access in the middle of which the memory goes throws, and the process lives', async () => {
    const { status, signal, value, stderr } = await runInChild(async ({ MemoryObject }) => {
      const codes: Record<string, number> = {};
      for (let round = 0; round < 50; round++) {
        const memory = MemoryObject.create({ size: 4096 });
        const mapping = memory.map({ fill: 'signal' });
        mapping.write32(0, 0x55);
        const large = MemoryObject.create({ size: 2 ** 21 * (round % 5) + 4096 });
        large.map({ populate: true });
        const revoked = Promise.all([large.revoke(), memory.revoke()]);
        try {
          for (;;) if (mapping.read32(0) !== 0x55) throw new Error('wrong value');
        } catch (error) {
          const code = (error as { code?: string }).code ?? String(error);
          codes[code] = (codes[code] ?? 0) + 1;
        }
        await revoked;
        memory.close();
        large.close();
      }
      return codes;
    });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    expect(value).toEqual({ ERR_MAPPING_REVOKED: 50 });
  });

  test('A3 a lost page kills at a raw access and throws at a checked one', async () => {
    const body = (
      lib: typeof import('revocable-mmap'),
      require: NodeJS.Require,
      input: { path: string; raw: boolean },
    ): unknown => {
      const mapping = lib.MemoryObject.openFile(input.path).map({ fill: 'signal' });
      (require('node:fs') as typeof import('node:fs')).truncateSync(input.path, 4096);
      if (input.raw) return mapping.bytes[8192];
      const seen: unknown[] = [];
      for (const access of [
        () => mapping.read8(8192),
        () => mapping.read32(4096),
        () => mapping.read8(0),
        () => mapping.read(0, new Uint8Array(5000)),
      ]) {
        try {
          seen.push(access());
        } catch (error) {
          const { code, cause, bytesTransferred } = error as { code: string; cause: string; bytesTransferred?: number };
          seen.push([code, cause, bytesTransferred ?? null]);
        }
      }
      return seen;
    };
    const checked = await runInChild(body, { input: { path: temporaryFile(3 * PAGE), raw: false } });
    expect(checked).toMatchObject({ status: 0, signal: null, stderr: '' });
    expect(checked.value).toEqual([
      ['ERR_BACKING_FAULT', 'past-end', null],
      ['ERR_BACKING_FAULT', 'past-end', null],
      0x5a,
      ['ERR_BACKING_FAULT', 'past-end', 4096],
    ]);
    expect(await runInChild(body, { input: { path: temporaryFile(3 * PAGE), raw: true } })).toMatchObject(DIED_OF_SIGBUS);
  });

  test('A3 other mappings of the same object keep their own fill', async () => {
    const { status, signal, value } = await runInChild(({ MemoryObject }) => {
      const memory = MemoryObject.create({ size: 4096 });
      memory.map({ fill: 'signal' });
      const zeros = memory.map({ fill: 'zeros' });
      const ones = memory.map({ fill: 'ones' });
      memory.revokeSync();
      return [zeros.bytes[0], ones.bytes[0]];
    });
    expect({ status, signal, value }).toEqual({ status: 0, signal: null, value: [0, 255] });
  });
});
