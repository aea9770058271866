import { runInChild } from '../support/child.js';
import { temporaryFile } from '../support/temporary.js';

/** What this version of TypeScript's library does not know yet. */
type ResizableBuffer = ArrayBuffer & { resize(bytes: number): void };

/** Ended by itself, with nothing to say. */
function expectValue(run: Awaited<ReturnType<typeof runInChild>>, value: unknown): void {
  expect(run).toMatchObject({ status: 0, signal: null, stderr: '' });
  expect(run.value).toEqual(value);
}

describe('A4 asynchronous copies', () => {
  test.each(['detach', 'resize', 'shorten', 'grow'] as const)(
    'A4 a target that is gone when the copy ends is an error, and nothing is written: %s',
    async (how) => {
      const run = await runInChild(
        async ({ MemoryObject }, _require, how) => {
          const mapping = MemoryObject.create({ size: 1 << 20 }).map();
          mapping.bytes.fill(7);
          const Resizable = ArrayBuffer as unknown as new (bytes: number, options: { maxByteLength: number }) => ResizableBuffer;
          const resizable = new Resizable(200_000, { maxByteLength: 400_000 });
          const wasm = new (globalThis as any).WebAssembly.Memory({ initial: 4, maximum: 10 });
          const { buffer, act } = {
            detach: { buffer: resizable, act: () => structuredClone(resizable, { transfer: [resizable] }) },
            resize: { buffer: resizable, act: () => (resizable.resize(0), resizable) },
            shorten: { buffer: resizable, act: () => (resizable.resize(100), resizable) },
            grow: { buffer: wasm.buffer, act: () => (wasm.grow(1), wasm.buffer) },
          }[how];
          const copy = mapping.readAsync(0, new Uint8Array(buffer, 0, 200_000));
          const left = act();
          const error = await copy.then(
            () => 'resolved',
            ({ code, bytesTransferred }: { code: string; bytesTransferred: number }) => ({ code, bytesTransferred }),
          );
          return { error, written: new Uint8Array(left).some((byte) => byte !== 0), again: mapping.read8(5) };
        },
        { input: how },
      );
      expectValue(run, { error: { code: 'ERR_OUT_OF_RANGE', bytesTransferred: 0 }, written: false, again: 7 });
    },
  );

  test('A4 writeAsync() writes what its source held when it was called, however often it is tried', async () => {
    const run = await runInChild(async ({ MemoryObject }) => {
      const mapping = MemoryObject.create({ size: 16384 }).map();
      mapping.protect({ offset: 8192, length: 4096, access: 'r' });
      const written = [];
      for (let i = 0; i < 100; i++) {
        const source = new Uint8Array(4096).fill(i);
        const copy = mapping.writeAsync(0, source);
        mapping.bytes[8192] = 5; // diverted: something in the mapping changes
        source.fill(255);
        written.push([await copy, mapping.read8(0), mapping.read8(4095)]);
      }
      return written.findIndex(([bytes, first, last], i) => bytes !== 4096 || first !== i || last !== i);
    });
    expectValue(run, -1);
  });

  test('A4 a copy comes to its end while the mapping changes in every turn of the event loop', async () => {
    const run = await runInChild(async ({ MemoryObject }) => {
      const mapping = MemoryObject.create({ size: 16384 }).map({ access: 'r' });
      let settled = 0;
      let going = true;
      const turn = (): void => {
        mapping.bytes[8192] = 5;
        mapping.read8(8192); // puts the page back
        if (going) setImmediate(turn);
      };
      turn();
      for (let i = 0; i < 50; i++) settled += await mapping.readAsync(0, new Uint8Array(100));
      going = false;
      return settled;
    });
    expectValue(run, 5000);
  });
});

describe('A4 memory that others have taken away', () => {
  test('A4 pages to which the program has denied access: EFAULT, at the byte, and nothing is taken for lost', async () => {
    const run = await runInChild(async ({ MemoryObject }, require) => {
      const { mprotect, PROT } = require('./test/children/libc.cjs') as {
        mprotect: (at: number, bytes: number, prot: number) => number;
        PROT: { none: number; read: number; write: number };
      };
      const mapping = MemoryObject.create({ size: 16384, name: 'denied' }).map();
      const plain = MemoryObject.create({ size: 16384 }).map();
      mapping.bytes.fill(7);
      mprotect(Number(mapping.address) + 8192, 4096, PROT.none);
      const failing = mapping.bytes.subarray(8000, 8300);
      const calls = {
        read: () => mapping.read(8000, new Uint8Array(300)),
        write: () => mapping.write(8000, new Uint8Array(300)),
        readAsync: () => mapping.readAsync(8000, new Uint8Array(300)),
        writeAsync: () => mapping.writeAsync(8000, new Uint8Array(300)),
        'write from': () => plain.write(0, failing),
        'read to': () => plain.read(0, failing),
        'writeAsync from': () => plain.writeAsync(0, failing),
        'readAsync to': () => plain.readAsync(0, failing),
      };
      const outcomes: Record<string, unknown> = {};
      for (const [name, call] of Object.entries(calls)) {
        try {
          outcomes[name] = await call();
        } catch (error) {
          const { code, syscall, object, offset, bytesTransferred } = error as Record<string, unknown>;
          outcomes[name] = { code, syscall, object, offset, bytesTransferred };
        }
      }
      const { state } = mapping;
      mprotect(Number(mapping.address) + 8192, 4096, PROT.read | PROT.write);
      mapping.check();
      return { outcomes, state, again: mapping.read(8000, new Uint8Array(300)) };
    });
    const there = { code: 'EFAULT', syscall: 'copy', object: 'denied', offset: 8192, bytesTransferred: 192 };
    const other = { code: 'EFAULT', syscall: 'copy', bytesTransferred: 192 };
    expectValue(run, {
      outcomes: {
        read: there,
        write: there,
        readAsync: there,
        writeAsync: there,
        'write from': other,
        'read to': other,
        'writeAsync from': other,
        'readAsync to': other,
      },
      state: 'live',
      again: 300,
    });
  });

  test('A4 other buffers that are no mapping of the library and fault: EFAULT, with what has been copied', async () => {
    const run = await runInChild(
      async ({ MemoryObject }, require, path) => {
        const fs = require('node:fs') as typeof import('node:fs');
        const { koffi, mmap, PROT, MAP } = require('./test/children/libc.cjs') as {
          koffi: { view: (at: number, bytes: number) => ArrayBuffer };
          mmap: (at: number, bytes: number, prot: number, flags: number, fd: number, offset: number) => number;
          PROT: { read: number };
          MAP: { shared: number; private: number; anonymous: number };
        };
        const fd = fs.openSync(path, 'r+');
        const truncated = new Uint8Array(koffi.view(mmap(0, 8192, PROT.read, MAP.shared, fd, 0), 8192));
        const constant = new Uint8Array(koffi.view(mmap(0, 8192, PROT.read, MAP.private | MAP.anonymous, -1, 0), 8192));
        fs.ftruncateSync(fd, 4096);
        const mapping = MemoryObject.create({ size: 16384 }).map();
        const calls = {
          write: () => mapping.write(0, truncated),
          writeAsync: () => mapping.writeAsync(8192, truncated),
          read: () => mapping.read(0, constant),
          readAsync: () => mapping.readAsync(0, constant),
        };
        const outcomes: Record<string, unknown> = {};
        for (const [name, call] of Object.entries(calls)) {
          try {
            outcomes[name] = await call();
          } catch (error) {
            const { code, syscall, bytesTransferred } = error as Record<string, unknown>;
            outcomes[name] = { code, syscall, bytesTransferred };
          }
        }
        const written = [0, 4095, 4096, 8192, 12287, 12288].map((offset) => mapping.read8(offset));
        return { outcomes, written, state: mapping.state };
      },
      { input: temporaryFile(8192, 3) },
    );
    const failed = { code: 'EFAULT', syscall: 'copy', bytesTransferred: 4096 };
    const refused = { ...failed, bytesTransferred: 0 };
    expectValue(run, {
      outcomes: { write: failed, writeAsync: failed, read: refused, readAsync: refused },
      written: [3, 3, 0, 3, 3, 0],
      state: 'live',
    });
  });

  test('A4 a copy takes as many bytes as its other buffer had when it began, while a growable one grows', async () => {
    const run = await runInChild(async ({ MemoryObject }, require) => {
      const { once } = require('node:events') as typeof import('node:events');
      const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
      const [PAGE, BYTES] = [4096, 1 << 20];
      const memory = MemoryObject.create({ size: BYTES });
      const mapping = memory.map();
      mapping.bytes.fill(7);
      mapping.protect({ offset: 8 * PAGE, length: PAGE, access: 'r' });
      const wrong = [];
      for (let round = 0; round < 5; round++) {
        const buffer = new SharedArrayBuffer(BYTES, { maxByteLength: 2 * BYTES });
        const control = new Int32Array(new SharedArrayBuffer(8)); // go; ready
        // Diverts all the time, so that the copy is made in pieces, and grows the buffer after a while.
        const worker = new Worker(
          `const { workerData } = require('node:worker_threads');
           const { Mapping } = require(${JSON.stringify(require.resolve('revocable-mmap'))});
           const { handle, control, buffer, PAGE, BYTES, after } = workerData;
           const { bytes } = Mapping.attach(handle);
           Atomics.store(control, 1, 1);
           while (Atomics.load(control, 0) === 0);
           const begin = performance.now();
           for (let i = 0; Atomics.load(control, 0) === 1; i++) {
             bytes[8 * PAGE + (i % PAGE)] = 1;
             for (const next = performance.now() + 0.03; performance.now() < next;); // a page gets through, and no more
             if (buffer.byteLength === BYTES && performance.now() - begin > after) buffer.grow(2 * BYTES);
           }`,
          { eval: true, workerData: { handle: mapping.share(), control, buffer, PAGE, BYTES, after: round / 2 } },
        );
        const ended = once(worker, 'exit');
        while (Atomics.load(control, 1) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
        const target = new Uint8Array(buffer);
        Atomics.store(control, 0, 1);
        for (let copies = 0; copies < 2; copies++) {
          const view = target.byteLength > BYTES ? target.subarray(0, BYTES) : target;
          try {
            const done = mapping.read(0, view);
            if (done !== BYTES) wrong.push(done);
          } catch (error) {
            // It may have grown between the look above and the copy's own: then it is too long for the mapping.
            const { code } = error as { code?: string };
            if (code !== 'ERR_OUT_OF_RANGE' || view.byteLength === BYTES) wrong.push(String(error));
          }
        }
        Atomics.store(control, 0, 2);
        await ended;
        const beyond = new Uint8Array(buffer).subarray(BYTES);
        if (beyond.some((byte) => byte !== 0)) wrong.push('beyond');
      }
      return { wrong, state: mapping.state };
    });
    expectValue(run, { wrong: [], state: 'live' });
  });
});
