import { createHash, webcrypto } from 'node:crypto';
import { deflateSync, inflateSync } from 'node:zlib';
import { MemoryObject } from 'revocable-mmap';
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
