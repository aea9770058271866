import { createHash, webcrypto } from 'node:crypto';
import { inspect } from 'node:util';
import { deflateSync, inflateSync } from 'node:zlib';
import { MemoryObject } from 'revocable-mmap';
import { testUnless } from '../support/conditions.js';
import { runInChild } from '../support/child.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

describe('shared: false', () => {
  test('gives an ArrayBuffer of exactly the mapping', () => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const mapping = memory.map({ shared: false, length: 5000 });
    expect(Object.prototype.toString.call(mapping.buffer)).toBe('[object ArrayBuffer]');
    expect([mapping.buffer.byteLength, mapping.bytes.byteOffset, mapping.bytes.length]).toEqual([5000, 0, 5000]);
    memory.map().bytes.fill(0x5a);
    expect(mapping.bytes.every((byte) => byte === 0x5a)).toBe(true);
    mapping.write32(0, 7);
    expect(memory.map().read32(0)).toBe(7);
    memory.close();
  });

  test('APIs that refuse shared memory take it', async () => {
    const memory = MemoryObject.create({ size: 2 * PAGE });
    const mapping = memory.map({ shared: false });
    mapping.bytes.fill(0x31);
    const expected = createHash('sha256')
      .update(Buffer.alloc(2 * PAGE, 0x31))
      .digest('hex');
    expect(Buffer.from(await webcrypto.subtle.digest('SHA-256', mapping.bytes as Uint8Array<ArrayBuffer>)).toString('hex')).toBe(
      expected,
    );
    expect(inflateSync(deflateSync(mapping.bytes)).equals(Buffer.from(mapping.bytes))).toBe(true);
    expect(new TextDecoder().decode(mapping.bytes.subarray(0, 3))).toBe('111');
    memory.close();
  });

  test('is revoked and closed as any other, and never detached', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map({ shared: false, fill: 'ones' });
    const { buffer, bytes } = mapping;
    memory.revokeSync();
    expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    expect([bytes[0], buffer.byteLength]).toEqual([0xff, PAGE]);
    mapping.close();
    expect([bytes[0], buffer.byteLength]).toEqual([0, PAGE]);
    bytes[0] = 3;
    expect(bytes[0]).toBe(3);
    memory.close();
  });
});

describe('a buffer that its user has transferred away', () => {
  const transferred = (buffer: ArrayBufferLike): ArrayBuffer => (buffer as unknown as { transfer(): ArrayBuffer }).transfer();

  const whyNot = 'transfer' in ArrayBuffer.prototype ? undefined : 'ArrayBuffers can be transferred from Node 22 on';

  for (const when of ['before', 'after'])
    testUnless(whyNot, `views made ${when} are empty, and checked accesses go on`, () => {
      const memory = MemoryObject.create({ size: PAGE });
      const mapping = memory.map({ shared: false });
      mapping.write32(0, 7);
      if (when === 'before') expect([mapping.bytes.length, mapping.view.byteLength]).toEqual([PAGE, PAGE]);
      const moved = transferred(mapping.buffer);
      expect([mapping.buffer.byteLength, mapping.bytes.length, mapping.bytes[0]]).toEqual([0, 0, undefined]);
      expect(mapping.bytes).toBe(mapping.bytes);
      if (when === 'after') expect(mapping.view.byteLength).toBe(0);
      expect([mapping.read32(0), mapping.read8(1), mapping.state]).toEqual([7, 0, 'live']);
      mapping.write64(8, 9n);
      const copy = new Uint8Array(16);
      expect([mapping.read(0, copy), copy[8], new Uint8Array(moved)[8]]).toEqual([16, 9, 9]);
      expect([mapping.write(0, copy), mapping.check(), mapping.residency().length]).toEqual([16, undefined, 1]);
      expect(inspect(mapping)).toBe('Mapping <revocable +0 4096 B rw shared live>');
      memory.revokeSync();
      expect(thrownBy(() => mapping.read32(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
      expect(new Uint8Array(moved)[0]).toBe(0);
      mapping.close();
      memory.close();
    });
});

describe('longer than a buffer can be', () => {
  test.each([true, false])(
    'shared: %s: a mapping of any length is made or refused, and the others are as they were',
    async (shared) => {
      const run = await runInChild(
        ({ MemoryObject, stats }, _require, { shared, path }) => {
          const file = MemoryObject.openFile(path);
          const outcomes = [];
          const memory = MemoryObject.create({ size: 4096 });
          const others = [];
          for (const power of [32, 33, 36, 40, 46, 52]) {
            for (const length of [2 ** power - 4096, 2 ** power, 2 ** power + 4096]) {
              others.push(memory.map({ shared }));
              try {
                file.map({ length, shared }).close();
                outcomes.push('made');
              } catch (error) {
                outcomes.push((error as { code?: string }).code);
              }
              others.push(memory.map({ shared }));
            }
          }
          memory.map().write32(0, 4711);
          return {
            outcomes: [...new Set(outcomes)].sort(),
            first: outcomes[0],
            others: others.every((mapping) => mapping.read32(0) === 4711 && mapping.view.getUint32(0, true) === 4711),
            left: stats().mappings.live - others.length,
          };
        },
        { input: { shared, path: temporaryFile(4096, 1) } },
      );
      expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
      expect(run.value).toMatchObject({ others: true, left: 1 });
      const { outcomes, first } = run.value as { outcomes: string[]; first: string };
      expect(first).toBe('made');
      expect(outcomes.filter((outcome) => !['made', 'ERR_OUT_OF_RANGE', 'ENOMEM'].includes(outcome))).toEqual([]);
      expect(outcomes).not.toEqual(['made']);
    },
  );
});
