import { inspect } from 'node:util';
import { Mapping, MappingClosedError, MemoryObject } from 'revocable-mmap';
import { converse } from '../support/conversation.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;

describe('share and attach', () => {
  test('in one thread: the same memory, the same object, a handle of its own', () => {
    const memory = MemoryObject.create({ size: 2 * PAGE, name: 'ring' });
    const mapping = memory.map({ offset: PAGE, access: 'r' });
    const attached = Mapping.attach(structuredClone(mapping.share()));
    expect(attached).not.toBe(mapping);
    expect(attached.object).toBe(memory);
    expect([attached.address, attached.offset, attached.length, attached.access]).toEqual([mapping.address, PAGE, PAGE, 'r']);
    expect(inspect(attached)).toBe(inspect(mapping));
    attached.close();
    expect([attached.state, mapping.state]).toEqual(['closed', 'live']); // its own handle only
    const again = Mapping.attach(mapping.share());
    mapping.close();
    expect(again.state).toBe('closed'); // the creator's close is for every thread
    expect(thrownBy(() => again.read8(0))).toBeInstanceOf(MappingClosedError);
    memory.close();
  });

  test.each([2 ** 48, 2 ** 52])('a handle with an id that was never given, %d more than the right one', (more) => {
    const memory = MemoryObject.create({ size: PAGE });
    const handle = memory.map().share();
    expect(thrownBy(() => Mapping.attach({ ...handle, id: handle.id + more }))).toBeInstanceOf(MappingClosedError);
    memory.close();
  });

  test('a handle of a mapping that has been closed meanwhile', () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mapping = memory.map();
    const handle = mapping.share();
    mapping.close();
    expect(thrownBy(() => Mapping.attach(handle))).toBeInstanceOf(MappingClosedError);
    expect(thrownBy(() => mapping.share())).toBeInstanceOf(MappingClosedError);
    // A new mapping may have the old one's place in the table; the handle must not reach it.
    const others = Array.from({ length: 50 }, () => memory.map());
    expect(thrownBy(() => Mapping.attach(handle))).toBeInstanceOf(MappingClosedError);
    expect(others.every((other) => other.state === 'live')).toBe(true);
    memory.close();
  });

  test.each([
    { act: 'revoke', ends: 'ERR_MAPPING_REVOKED', states: ['revoked', 'revoked'] },
    { act: 'close object', ends: 'ERR_MAPPING_CLOSED', states: ['closed', 'closed'] },
    { act: 'close mapping', ends: 'ERR_MAPPING_CLOSED', states: ['live', 'live'] },
    { act: 'suspend', ends: 'ERR_MAPPING_SUSPENDED', states: ['suspended', 'suspended'] },
  ])(
    'a worker that attached can $act: what it does to the object is for every thread, what it does to its handle is not',
    async ({ act, ends, states }) => {
      const child = converse('share-worker.cjs', { args: [act] });
      try {
        expect(await child.hear()).toEqual({ worker: 4711, main: 4712, ends, states });
      } finally {
        expect(await child.end()).toEqual({ status: 0, signal: null, stderr: '' });
      }
    },
  );
});
