import { readFileSync, writeFileSync } from 'node:fs';
import { Mapping, MemoryObject } from 'revocable-mmap';
import { Device, RegisterFile } from 'revocable-mmap/device';
import { runChild, runInChild } from '../support/child.js';
import { mapsAt } from '../support/maps.js';
import { temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';
import { ACCESSES, accessesOf, fixedMemory, wasm } from '../support/wasm.js';

const PAGE = 4096;
const AT = 65_536;

describe('mappings inside a WebAssembly memory', () => {
  test('loads and stores of the program reach the object, and the mapping is where it was asked for', () => {
    const memory = fixedMemory();
    const program = accessesOf(memory);
    const object = MemoryObject.create({ size: 3 * PAGE });
    const other = object.map();
    const mapping = object.map({ memory, memoryOffset: AT });
    expect(mapping).toMatchObject({ offset: 0, length: 3 * PAGE, access: 'rw', state: 'live' });
    expect(mapping.memory).toBe(memory);
    expect(other.memory).toBeUndefined();
    expect(mapping.buffer).toBe(memory.buffer);
    expect([mapping.bytes.byteOffset, mapping.bytes.length, mapping.view.byteOffset]).toEqual([AT, 3 * PAGE, AT]);
    expect(mapsAt(mapping.address, mapping.length)).toEqual([
      expect.objectContaining({ start: mapping.address, end: mapping.address + BigInt(3 * PAGE), flags: 'rw-s' }),
    ]);
    program.store32(AT + 8, 0x01020304);
    program.store64(AT + PAGE, 0x1122334455667788n);
    program.store8(AT + 3 * PAGE - 1, 9);
    expect([other.read32(8), other.read64(PAGE), other.read8(3 * PAGE - 1)]).toEqual([0x01020304, 0x1122334455667788n, 9]);
    other.write32(16, 40);
    expect([program.add32(AT + 16, 2), program.load32(AT + 16), other.read32(16)]).toEqual([40, 42, 42]);
    program.fill(AT + 2 * PAGE, 7, 100);
    program.copy(0, AT + 2 * PAGE, 100);
    expect([mapping.read8(2 * PAGE + 99), program.load8(99), program.load8(100)]).toEqual([7, 7, 0]);
    mapping.write64(24, 1n);
    expect([program.load64(AT + 24), mapping.bytes[8], mapping.view.getUint32(8, true)]).toEqual([1n, 4, 0x01020304]);
    object.close();
  });

  test('a part of a file, copied on write, at the end of the memory', () => {
    const path = temporaryFile(0);
    writeFileSync(path, Buffer.alloc(3 * PAGE, 5));
    const file = MemoryObject.openFile(path);
    const memory = fixedMemory(1);
    const mapping = file.map({ memory, memoryOffset: 14 * PAGE, offset: PAGE, length: PAGE + 1, private: true, populate: true });
    const program = accessesOf(memory);
    expect([program.load8(14 * PAGE), program.load8(16 * PAGE - 1), program.load8(14 * PAGE - 1)]).toEqual([5, 5, 0]);
    expect([mapping.bytes.length, mapping.access]).toEqual([PAGE + 1, 'r']);
    file.close();
  });

  test.each(['zeros', 'ones'] as const)('a revoked one reads %s and never traps', (fill) => {
    const memory = fixedMemory();
    const program = accessesOf(memory);
    const object = MemoryObject.create({ size: 2 * PAGE });
    const mapping = object.map({ memory, memoryOffset: AT, fill });
    program.fill(AT - 8, 1, 2 * PAGE + 16);
    object.revokeSync();
    const byte = fill === 'ones' ? 0xff : 0;
    expect([program.load8(AT), program.load32(AT + PAGE) >>> 0]).toEqual([byte, byte * 0x01010101]);
    expect(program.load64(AT + 8)).toBe(fill === 'ones' ? -1n : 0n);
    program.store32(AT, 77);
    expect([program.add32(AT, 1), program.load32(AT)]).toEqual([77, 78]);
    expect([program.load8(AT - 1), program.load8(AT + 2 * PAGE)]).toEqual([1, 1]); // what is not the mapping's
    expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    expect(mapping).toMatchObject({ state: 'revoked', faults: 1 });
    object.close();
  });

  test.each(['store8', 'add32', 'fill', 'copy', 'poll'] as const)('the first touch of revoked memory may be %s', (name) => {
    const memory = fixedMemory();
    const program = accessesOf(memory);
    const object = MemoryObject.create({ size: 2 * PAGE });
    object.map({ memory, memoryOffset: AT });
    program.fill(AT, 3, 2 * PAGE);
    object.revokeSync();
    const touches = {
      store8: () => program.store8(AT, 1),
      add32: () => expect(program.add32(AT, 1)).toBe(0),
      fill: () => program.fill(AT - 100, 1, 2 * PAGE),
      copy: () => program.copy(0, AT, 2 * PAGE),
      poll: () => expect(program.poll(AT, 0x03030303)).toBe(0),
    };
    touches[name]();
    expect(program.load32(AT + PAGE + 1000)).toBe(name === 'fill' ? 0x01010101 : 0);
    object.close();
  });

  test('out of bounds still traps, at every distance, while mappings are revoked', () => {
    const memory = fixedMemory(1);
    const program = accessesOf(memory);
    const end = memory.buffer.byteLength;
    for (const fill of ['zeros', 'ones'] as const) {
      const object = MemoryObject.create({ size: PAGE });
      const mapping = object.map({ memory, memoryOffset: end - PAGE, fill });
      const trap = (access: () => unknown): void => expect(thrownBy(access)).toBeInstanceOf(wasm.RuntimeError);
      for (let round = 0; round < 2; round++) {
        for (const at of [end - 3, end - 1, end, end + PAGE, 0x7fff_0000, -1]) trap(() => program.load32(at));
        trap(() => program.store32(end - 2, 1));
        trap(() => program.fill(end - 10, 1, 11));
        object.revokeSync();
      }
      expect(program.load32(end - 4) >>> 0).toBe(fill === 'ones' ? 0xffff_ffff : 0);
      mapping.close();
      trap(() => program.load32(end - 3));
    }
  });

  test('suspended and resumed', async () => {
    const memory = fixedMemory();
    const program = accessesOf(memory);
    const object = MemoryObject.create({ size: PAGE });
    const mapping = object.map({ memory, memoryOffset: AT, fill: 'ones' });
    program.store32(AT, 42);
    await object.suspend();
    expect([program.load32(AT), mapping.state]).toEqual([-1, 'suspended']);
    expect(thrownBy(() => object.map({ memory, memoryOffset: 0 }))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    program.store32(AT, 1);
    await object.resume();
    expect([program.load32(AT), mapping.read32(0)]).toEqual([42, 42]);
    object.close();
  });

  test('protected pages', async () => {
    const memory = fixedMemory();
    const program = accessesOf(memory);
    const object = MemoryObject.create({ size: 3 * PAGE });
    const mapping = object.map({ memory, memoryOffset: AT });
    const all = object.map();
    program.fill(AT, 1, 3 * PAGE);
    mapping.protect({ offset: 0, length: PAGE, access: 'none' });
    mapping.protect({ offset: PAGE, length: PAGE, access: 'r' });
    expect(mapsAt(mapping.address, mapping.length).map(({ flags }) => flags)).toEqual(['---s', 'r--s', 'rw-s']);
    program.store8(AT + PAGE, 9);
    expect([program.load8(AT), program.load8(AT + 2 * PAGE)]).toEqual([0, 1]);
    expect([all.read8(0), all.read8(PAGE), mapping.read8(PAGE)]).toEqual([1, 1, 1]);
    expect(thrownBy(() => mapping.read8(0))).toMatchObject({ code: 'ERR_MAPPING_PROTECTED' });
    expect(thrownBy(() => memory.grow(1))).toBeInstanceOf(RangeError);
    expect(memory.grow(0)).toBe(4);
    await until(
      'the pages are put back',
      () =>
        mapsAt(mapping.address, 2 * PAGE)
          .map(({ flags }) => flags)
          .join() === '---s,r--s',
    );
    object.close();
  });

  test('a lost page of a file', () => {
    const path = temporaryFile(2 * PAGE);
    const file = MemoryObject.openFile(path, { writable: true });
    const memory = fixedMemory();
    const mapping = file.map({ memory, memoryOffset: AT });
    const program = accessesOf(memory);
    program.fill(AT, 6, 2 * PAGE);
    writeFileSync(path, Buffer.alloc(PAGE, 6));
    expect([program.load8(AT), program.load8(AT + PAGE)]).toEqual([6, 0]);
    expect(thrownBy(() => mapping.read8(PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT' });
    program.store8(AT, 8);
    mapping.sync({ offset: 0, length: PAGE });
    expect(readFileSync(path)[0]).toBe(8);
    file.close();
  });

  test.each(['live', 'revoked and touched', 'revoked', 'protected'])(
    'closing one that is %s leaves zeros, for the program to use',
    (how) => {
      const memory = fixedMemory();
      const program = accessesOf(memory);
      const object = MemoryObject.create({ size: 2 * PAGE });
      const mapping = object.map({ memory, memoryOffset: AT, fill: 'ones' });
      program.fill(AT - PAGE, 1, 4 * PAGE);
      if (how === 'protected') mapping.protect({ offset: 0, length: PAGE, access: 'none' });
      if (how.startsWith('revoked')) object.revokeSync();
      if (how.endsWith('touched')) program.load8(AT);
      mapping.close();
      expect(memory.buffer.byteLength).toBe(4 * 65_536);
      expect([AT - 1, AT, AT + 2 * PAGE - 1, AT + 2 * PAGE].map((at) => program.load8(at))).toEqual([1, 0, 0, 1]);
      program.fill(AT, 2, 2 * PAGE);
      for (const { flags, path } of mapsAt(mapping.address, 2 * PAGE)) expect([flags, path]).toEqual(['rw-p', '']);
      const again = MemoryObject.create({ size: PAGE });
      again.map().write8(0, 3);
      again.map({ memory, memoryOffset: AT + PAGE });
      expect([program.load8(AT), program.load8(AT + PAGE)]).toEqual([2, 3]);
      again.close();
      object.close();
    },
  );

  test.each(['', 'procmap-query'])('overlaps are refused (kernel without %p)', async (without) => {
    const run = await runInChild(
      ({ MemoryObject: Objects }) => {
        const { Memory } = (globalThis as any).WebAssembly;
        const memory = new Memory({ initial: 4, maximum: 4, shared: true });
        const object = Objects.create({ size: 2 * 4096 });
        const refusal = (memoryOffset: number): unknown => {
          try {
            return object.map({ memory, memoryOffset }).state;
          } catch (error) {
            return (error as Error).message;
          }
        };
        const mapping = object.map({ memory, memoryOffset: 65_536 });
        const refused = [65_536, 65_536 - 4096, 65_536 + 4096].map(refusal);
        const neighbours = [65_536 - 2 * 4096, 65_536 + 2 * 4096].map(refusal);
        object.revokeSync();
        const object2 = Objects.create({ size: 4096 });
        let whileRevoked = '';
        try {
          object2.map({ memory, memoryOffset: 65_536 });
        } catch (error) {
          whileRevoked = (error as { code: string }).code;
        }
        mapping.close();
        return { refused, neighbours, whileRevoked, after: object2.map({ memory, memoryOffset: 65_536 }).state };
      },
      { env: { REVOCABLE_MMAP_WITHOUT: without } },
    );
    const message = (at: number): string =>
      `EEXIST: file already exists, mmap (something is mapped there already, at ${at} of the WebAssembly memory)`;
    expect(run).toMatchObject({
      stderr: '',
      value: {
        refused: [message(65_536), message(61_440), message(69_632)],
        neighbours: ['live', 'live'],
        whileRevoked: 'EEXIST',
        after: 'live',
      },
    });
  });

  test('two mappings in one memory have their own errors, events and ends', () => {
    const memory = fixedMemory();
    const program = accessesOf(memory);
    const [one, two] = ['one', 'two'].map((name) => MemoryObject.create({ size: PAGE, name }));
    const first = one.map({ memory, memoryOffset: AT });
    const second = two.map({ memory, memoryOffset: AT + PAGE, fill: 'ones' });
    program.fill(AT, 4, 2 * PAGE);
    // A view over ordinary memory, the first and the second, given to a copy.
    const source = MemoryObject.create({ size: 4 * PAGE }).map();
    const view = new Uint8Array(memory.buffer, AT - 100, 2 * PAGE + 100);
    expect(source.read(0, view)).toBe(view.length);
    two.revokeSync();
    expect(thrownBy(() => source.write(0, view))).toMatchObject({
      code: 'ERR_MAPPING_REVOKED',
      object: 'two',
      offset: 0,
      bytesTransferred: PAGE + 100,
    });
    expect([first.state, second.state]).toEqual(['live', 'revoked']);
    expect([program.load8(AT), program.load8(AT + PAGE)]).toEqual([0, 0xff]);
    one.revokeSync();
    memory.grow(0); // another buffer object of the same memory
    const fresh = new Uint8Array(memory.buffer, AT - 1, 10);
    expect(thrownBy(() => source.write(0, fresh))).toMatchObject({ object: 'one', bytesTransferred: 1 });
    first.close();
    expect(second.state).toBe('revoked');
    two.close();
    one.close();
    source.object.close();
  });

  test('regions of devices too: the first load asks the device', async () => {
    const run = await runInChild(
      async (_lib, require, program) => {
        const { Device: Made } = require('revocable-mmap/device') as typeof import('revocable-mmap/device');
        const { Memory, Module, Instance } = (globalThis as any).WebAssembly;
        const memory = new Memory({ initial: 4, maximum: 4, shared: true });
        const device = new Made({ name: 'card', regions: [{ size: 2 * 4096, pages: { constant: 7 } }] });
        const mapping = device.open().map({ memory, memoryOffset: 65_536, fill: 'ones' });
        const { load8 } = new Instance(new Module(Uint8Array.from(program)), { env: { memory } }).exports;
        const before = [load8(65_536), load8(65_536 + 2 * 4096)];
        await device.unplug();
        return { before, after: load8(65_536), state: mapping.state };
      },
      { input: [...ACCESSES] },
    );
    expect(run.stderr).toBe('');
    expect(run.value).toEqual({ before: [7, 0], after: 0xff, state: 'revoked' });
  });

  test.each([
    ['revoke', '-1 ERR_MAPPING_REVOKED 4294967295'],
    ['suspend', '-1 ERR_MAPPING_SUSPENDED 1'],
    ['close', '0 ERR_MAPPING_CLOSED 0'],
  ])('a loop in a worker, in the middle of which comes %s', async (act, answer) => {
    const run = await runChild('wasm-threads.cjs', { args: [act, 30, Buffer.from(ACCESSES).toString('base64')] });
    expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
    expect(JSON.parse(run.stdout)).toEqual({ answers: { [answer]: 30 }, open: 0 });
  });

  test('a shared handle carries the memory', () => {
    const memory = fixedMemory();
    const object = MemoryObject.create({ size: PAGE });
    const mapping = object.map({ memory, memoryOffset: AT });
    const attached = Mapping.attach(structuredClone(mapping.share()));
    expect(String(attached.memory)).toBe('[object WebAssembly.Memory]');
    expect([attached.address, attached.bytes.byteOffset, attached.length]).toEqual([mapping.address, AT, PAGE]);
    accessesOf(attached.memory!).store32(AT, 12);
    expect([attached.read32(0), mapping.read32(0)]).toEqual([12, 12]);
    expect(thrownBy(() => Mapping.attach({ ...mapping.share(), memory: {} as any }))).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      message: 'The "handle.memory" argument must be an instance of WebAssembly.Memory. Received an instance of Object',
    });
    for (const foreign of [{ buffer: new SharedArrayBuffer(PAGE) }, { memory: fixedMemory() }]) {
      expect(thrownBy(() => Mapping.attach({ ...mapping.share(), ...foreign }))).toMatchObject({ code: 'ERR_MAPPING_CLOSED' });
    }
    object.close();
  });
});

describe('what keeps a mapping inside a WebAssembly memory', () => {
  test.each(['memory', 'instance', 'buffer', 'bytes', 'mapping'])('only its %s is left, and then not even that', async (kept) => {
    const run = await runInChild(
      async ({ MemoryObject: Objects, stats }, _require, { program, what }) => {
        const { Memory, Module, Instance } = (globalThis as any).WebAssembly;
        // Collections that may take all, and then as many as it takes.
        const collect = async (enough: number): Promise<number> => {
          const end = Date.now() + 20_000;
          for (let i = 0; i < 10 || (stats().mappings.live > enough && Date.now() < end); i++) {
            globalThis.gc!();
            await new Promise((resolve) => setTimeout(resolve, 2));
          }
          return stats().mappings.live;
        };
        const held: unknown[] = [];
        for (let i = 0; i < 20; i++) {
          (() => {
            const memory = new Memory({ initial: 4, maximum: 4, shared: true });
            const instance = new Instance(new Module(Uint8Array.from(program)), { env: { memory } });
            const mapping = Objects.create({ size: 4096 }).map({ memory, memoryOffset: 65_536 });
            mapping.write32(0, i + 1);
            const { buffer, bytes } = mapping;
            memory.grow(0); // from here on memory.buffer is another object
            held.push({ memory, instance, buffer, bytes, mapping }[what]);
          })();
        }
        const live = await collect(20);
        const word = (of: any): number =>
          of.exports?.load32(65_536) ?? of.read32?.(0) ?? new Uint32Array(of.buffer ?? of, 65_536, 1)[0];
        const words = held.map(word);
        held.length = 0;
        return { live, words, after: await collect(1) };
      },
      { nodeArgs: ['--expose-gc'], input: { program: [...ACCESSES], what: kept } },
    );
    expect(run.stderr).toBe('');
    expect(run.value!.words).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(run.value!.live).toBe(20);
    expect(run.value!.after).toBeLessThanOrEqual(1); // the last one may still be on the stack
  });

  test('a worker that was only posted the memory keeps no mapping, and reads zeros in the end', async () => {
    const run = await runInChild(
      async ({ MemoryObject: Objects, stats }, require, program) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const { once } = require('node:events') as typeof import('node:events');
        const { Memory } = (globalThis as any).WebAssembly;
        const worker = new Worker(
          `const { parentPort, workerData: { memory, program } } = require('node:worker_threads');
           const { load32, store32 } = new WebAssembly.Instance(new WebAssembly.Module(program), { env: { memory } }).exports;
           parentPort.on('message', () => { const seen = load32(65536); store32(65536, 5); parentPort.postMessage(seen); });`,
          {
            eval: true,
            workerData: (() => {
              const memory = new Memory({ initial: 4, maximum: 4, shared: true });
              Objects.create({ size: 4096 }).map({ memory, memoryOffset: 65_536 }).write32(0, 42);
              return { memory, program: Uint8Array.from(program) };
            })(),
          },
        );
        const ask = async (): Promise<number> => {
          worker.postMessage('look');
          return (await once(worker, 'message'))[0] as number;
        };
        const first = await ask();
        const end = Date.now() + 20_000;
        while (stats().mappings.live > 0 && Date.now() < end) {
          globalThis.gc!();
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
        const words = [first, await ask(), await ask(), stats().mappings.live];
        await worker.terminate();
        return words;
      },
      { nodeArgs: ['--expose-gc'], input: [...ACCESSES] },
    );
    expect(run.stderr).toBe('');
    expect(run.value).toEqual([42, 0, 5, 0]);
  });

  test('2,000 forgotten memories with mappings leave nothing', async () => {
    const run = await runInChild(
      async ({ MemoryObject: Objects, stats }) => {
        const { Memory } = (globalThis as any).WebAssembly;
        for (let i = 0; i < 2000; i++) {
          const memory = new Memory({ initial: 4, maximum: 4, shared: true });
          const object = Objects.create({ size: 2 * 4096 });
          object.map({ memory, memoryOffset: 65_536 }).write32(0, i);
          if (i % 3 === 0) object.revokeSync();
          if (i % 20 === 19) {
            globalThis.gc!();
            await new Promise((resolve) => setImmediate(resolve));
          }
        }
        const open = (): number => stats().mappings.live + stats().mappings.revoked;
        for (const end = Date.now() + 20_000; open() > 1 && Date.now() < end;) {
          globalThis.gc!();
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
        return { open: open(), closed: stats().mappings.closed };
      },
      { nodeArgs: ['--expose-gc'] },
    );
    expect(run).toMatchObject({ status: 0, stderr: '' });
    expect(run.value!.open).toBeLessThanOrEqual(1);
    expect(run.value!.open + run.value!.closed).toBe(2000);
  });
});

describe('arguments of mappings inside a WebAssembly memory', () => {
  const TYPE = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
  const VALUE = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };
  const RANGE = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };
  const object = MemoryObject.create({ size: 3 * PAGE });
  const memory = fixedMemory();
  afterAll(() => object.close());
  const refusal = (options: object): unknown => thrownBy(() => object.map({ memory, memoryOffset: AT, ...options }));

  test.each([[null], [{}], [5], ['memory'], [new SharedArrayBuffer(AT)], [Object.create(memory)]])('memory: %p', (given) => {
    expect(refusal({ memory: given })).toMatchObject({
      ...TYPE,
      message: expect.stringContaining('The "options.memory" argument must be an instance of WebAssembly.Memory. Received '),
    });
  });

  test('a memory that is not shared, or can grow', () => {
    expect(refusal({ memory: new wasm.Memory({ initial: 4, maximum: 4 }) })).toMatchObject({
      ...VALUE,
      message:
        'The argument "options.memory" must be made with shared: true, as V8 may free the buffer of any other while it is mapped. ' +
        'Received [object WebAssembly.Memory]',
    });
    const growing = new wasm.Memory({ initial: 4, maximum: 6, shared: true });
    const refused = {
      ...VALUE,
      message:
        'The argument "options.memory" must have its maximum as its length, as growing would undo the protection of pages. ' +
        'Received [object WebAssembly.Memory]',
    };
    expect(refusal({ memory: growing })).toMatchObject(refused);
    growing.grow(1);
    expect(refusal({ memory: growing })).toMatchObject(refused);
    growing.grow(1);
    object.map({ memory: growing, memoryOffset: 5 * 65_536 }).close();
    for (const pages of [1, 127, 128, 300, 16_384]) object.map({ memory: fixedMemory(pages), memoryOffset: 0 }).close();
    expect(refusal({ memory: fixedMemory(0), memoryOffset: 0 })).toMatchObject(RANGE);
  });

  test('a memory with addresses of 64 bits, where there are such', () => {
    let wide: any;
    try {
      wide = new (wasm.Memory as any)({ initial: 4n, maximum: 4n, shared: true, address: 'i64' });
    } catch {
      return; // Node 20 and 22
    }
    object.map({ memory: wide, memoryOffset: AT }).close();
    const growing = new (wasm.Memory as any)({ initial: 4n, maximum: 5n, shared: true, address: 'i64' });
    expect(refusal({ memory: growing })).toMatchObject(VALUE);
  });

  test('a memory whose buffer has been made resizable, where there are such', () => {
    const own = fixedMemory() as ReturnType<typeof fixedMemory> & Record<'toResizableBuffer' | 'toFixedLengthBuffer', () => void>;
    if (own.toResizableBuffer === undefined) return; // Node 20, 22 and 24
    own.toResizableBuffer();
    expect(refusal({ memory: own })).toMatchObject({
      ...VALUE,
      message:
        'The argument "options.memory" must have a buffer of fixed length, as V8 cannot share any other: call its ' +
        'toFixedLengthBuffer(). Received [object WebAssembly.Memory]',
    });
    own.toFixedLengthBuffer();
    const mapping = object.map({ memory: own, memoryOffset: AT });
    own.toResizableBuffer();
    accessesOf(own).store32(AT, 5);
    expect([mapping.read32(0), mapping.bytes.length]).toEqual([5, 3 * PAGE]);
    mapping.close();
  });

  test('memoryOffset', () => {
    for (const memoryOffset of [undefined, null, '0', 1n, {}]) expect(refusal({ memoryOffset })).toMatchObject(TYPE);
    for (const memoryOffset of [-1, -PAGE, 1.5, NaN, 1, PAGE + 8, 2 ** 53])
      expect(refusal({ memoryOffset })).toMatchObject(RANGE);
    expect(refusal({ memoryOffset: AT + 8 })).toMatchObject({
      message: 'The value of "options.memoryOffset" is out of range. It must be a multiple of 4096. Received 65544',
    });
    const last = 4 * 65_536 - 3 * PAGE;
    expect(refusal({ memoryOffset: last + PAGE })).toMatchObject({
      ...RANGE,
      message:
        `The value of "options.memoryOffset" is out of range. It must be <= ${last}, so that the pages lie in options.memory. ` +
        `Received ${last + PAGE}`,
    });
    expect(refusal({ memoryOffset: last + PAGE, length: 2 * PAGE + 1 })).toMatchObject(RANGE);
    object.map({ memory, memoryOffset: last + PAGE, length: PAGE + 1 }).close();
    object.map({ memory, memoryOffset: 0 }).close();
    const large = MemoryObject.create({ size: 5 * 65_536 });
    expect(thrownBy(() => large.map({ memory, memoryOffset: 0 }))).toMatchObject({
      ...RANGE,
      message:
        'The value of "options.length" is out of range. It must be at most 262144, the length of options.memory. Received 327680',
    });
    large.close();
  });

  test('options that contradict', () => {
    expect(thrownBy(() => object.map({ memoryOffset: 0 }))).toMatchObject({
      ...VALUE,
      message: 'The argument "options.memoryOffset" must not be given without options.memory. Received 0',
    });
    expect(refusal({ shared: false })).toMatchObject({
      ...VALUE,
      message: 'The argument "options.shared" must be true with options.memory. Received false',
    });
    expect(object.mappings.size).toBe(0);
  });
});

test("loads and stores of a program reach a device's registers, as often as it makes them", async () => {
  const model = new RegisterFile([
    { offset: 0, kind: 'w1c', value: 0xff },
    { offset: 8, kind: 'counter', width: 8 },
  ]);
  const device = new Device({ name: 'card', regions: [{ size: PAGE, kind: 'registers', model }] });
  const memory = fixedMemory();
  const program = accessesOf(memory);
  const mapping = device.open().map({ memory, memoryOffset: AT, fill: 'ones' });
  program.store8(AT, 0x0f);
  expect([program.load32(AT), mapping.read32(0)]).toEqual([0xf0, 0xf0]);
  expect([program.load64(AT + 8), program.load64(AT + 8), mapping.read64(8)]).toEqual([0n, 1n, 2n]);
  expect([program.add32(AT, 0x10), model.get(0)]).toEqual([0xf0, 0xf0]); // clears 0x100, which is not set
  expect(mapsAt(mapping.address, PAGE).map(({ flags }) => flags)).toEqual(['---s']);
  await device.unplug();
  expect([program.load32(AT), mapping.state]).toEqual([-1, 'revoked']);
  mapping.close();
  expect(program.load32(AT)).toBe(0);
});
