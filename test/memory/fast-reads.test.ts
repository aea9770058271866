/** `read32` is the fast one again some time after a failure: docs/decisions/005-checked-accessors.md. */
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { runNode } from '../support/child.js';
import { until } from '../support/until.js';

/** The method that is in use, as the prototypes have it. */
function method(mapping: Mapping): unknown {
  return mapping.read32;
}

function made(): { memory: MemoryObject; mapping: Mapping } {
  const memory = MemoryObject.create({ size: 4096 });
  const mapping = memory.map();
  mapping.write32(0, 7);
  return { memory, mapping };
}

function failOnce(): void {
  const { memory, mapping } = made();
  mapping.read32(0);
  memory.revokeSync();
  expect(() => mapping.read32(0)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
}

describe('32-bit reads of a thread in which one has failed', () => {
  test('are another method until there is a new mapping, then a new one of the same text', () => {
    const { mapping } = made();
    const first = method(mapping);
    failOnce();
    const slow = method(mapping);
    expect(slow).not.toBe(first);
    expect(mapping.read32(0)).toBe(7);
    const { mapping: next } = made();
    const second = method(mapping);
    expect(method(next)).toBe(second);
    expect([first, slow]).not.toContain(second);
    expect(String(second)).toBe(String(first));
    expect([mapping.read32(0), next.read32(0)]).toEqual([7, 7]);
  });

  test('are so without a new mapping, on a later turn', async () => {
    const { mapping } = made();
    const before = method(mapping);
    expect(() => mapping.read32(2)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
    const slow = method(mapping);
    expect(slow).not.toBe(before);
    await until('it is another one', () => method(mapping) !== slow);
    expect(method(mapping)).not.toBe(before);
    expect(mapping.read32(0)).toBe(7);
  });

  test('stay slow for a time where they fail again and again, and right', () => {
    const { mapping } = made();
    const methods = new Set<unknown>();
    for (let i = 0; i < 50; i++) {
      failOnce();
      made();
      methods.add(method(mapping));
      expect(mapping.read32(0)).toBe(7);
    }
    expect(methods.size).toBeLessThan(10);
  });

  test('are right where a program has frozen the prototypes', async () => {
    const program = `
      const { EventEmitter } = require('node:events');
      const { MemoryObject, Mapping } = require('revocable-mmap');
      for (let each = Mapping.prototype; each !== EventEmitter.prototype; each = Object.getPrototypeOf(each)) Object.freeze(each);
      const make = () => { const memory = MemoryObject.create({ size: 4096 }); return { memory, mapping: memory.map() }; };
      const { mapping } = make();
      mapping.write32(0, 7);
      const codes = [];
      for (let i = 0; i < 3; i++) {
        const { memory, mapping: lost } = make();
        memory.revokeSync();
        try { lost.read32(0); } catch (error) { codes.push(error.code); }
      }
      console.log(JSON.stringify([codes, mapping.read32(0), make().mapping.read32(0)]));`;
    const { status, stdout, stderr } = await runNode(['-e', program]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual([Array(3).fill('ERR_MAPPING_REVOKED'), 7, 0]);
  });

  test('are slow for ever where no text may be evaluated', async () => {
    const program = `
      const { MemoryObject } = require('revocable-mmap');
      const make = () => { const memory = MemoryObject.create({ size: 4096 }); return { memory, mapping: memory.map() }; };
      const { mapping } = make();
      mapping.write32(0, 7);
      const { memory, mapping: lost } = make();
      const fast = mapping.read32;
      memory.revokeSync();
      let code;
      try { lost.read32(0); } catch (error) { code = error.code; }
      const slow = mapping.read32;
      const { mapping: next } = make();
      console.log(JSON.stringify([code, slow !== fast, next.read32 === slow, mapping.read32(0), next.read32(0)]));`;
    const { status, stdout, stderr } = await runNode(['--disallow-code-generation-from-strings', '-e', program]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual(['ERR_MAPPING_REVOKED', true, true, 7, 0]);
  });
});
