/** Cases 40 and 41: Linux's tools/testing/selftests/mm/mseal_test.c. Sealed memory cannot be unmapped: each is a process of its own. */
import { readFileSync } from 'node:fs';
import { testUnless } from '../support/conditions.js';
import { runInChild } from '../support/child.js';
import { survivingChild, whyNoMseal, type KernelCalls } from '../support/kernel-calls.js';
import { temporaryFile } from '../support/temporary.js';

const PAGE = 4096;
const whyNot = whyNoMseal();

type Kind = 'owned' | 'file' | 'owned, read-only' | 'file, read-only' | 'owned, private' | 'file, private';
interface Input {
  kind: Kind;
  path: string;
}

describe('kernel cases of mseal_test.c', () => {
  for (const kind of ['owned', 'file', 'owned, read-only', 'file, read-only', 'owned, private', 'file, private'] as Kind[]) {
    testUnless(
      whyNot,
      `case 40 (mseal test_seal_mmap_overwrite_prot, _expand, _shrink): a sealed mapping (${kind}) cannot be replaced; it is revoked by weaker means, and said so`,
      async () => {
        const path = temporaryFile(12 * PAGE, 0x33);
        const result = await survivingChild(
          (lib, k, input: Input) => {
            const P = k.PAGE;
            const owned = input.kind.startsWith('owned');
            const memory = owned
              ? lib.MemoryObject.create({ size: 12 * P })
              : lib.MemoryObject.openFile(input.path, { writable: true });
            if (owned) memory.map().bytes.fill(0x33);
            const mapping = memory.map({
              access: input.kind.includes('read-only') ? 'r' : 'rw',
              private: input.kind.includes('private'),
            });
            const first = mapping.read8(0);
            const sealed = k.mseal(mapping.address, 12 * P);
            const overwrite = (bytes: number, prot: number): string =>
              k.errorName(k.mmap(mapping.address, bytes, prot, k.MAP.PRIVATE | k.MAP.ANONYMOUS | k.MAP.FIXED));
            const refused = [
              overwrite(12 * P, k.PROT.READ), // _prot
              overwrite(8 * P, k.PROT.READ | k.PROT.WRITE), // _shrink
              k.errorName(k.mprotect(mapping.address, P, k.PROT.NONE)),
              k.errorName(k.munmap(mapping.address, P)),
              k.errorName(k.mremap(mapping.address, 12 * P, 16 * P, k.MREMAP.MAYMOVE)), // _expand
            ];
            const { mappings, means } = memory.revokeSync();
            const pages = k.readablePages(mapping.address, 12 * P);
            const code = (call: () => unknown): string => {
              try {
                return `returned ${String(call())}`;
              } catch (error) {
                return (error as { code: string }).code;
              }
            };
            const checked = [
              code(() => mapping.read8(0)),
              code(() => mapping.read32(8 * P)),
              code(() => mapping.write8(0, 1)),
              code(() => mapping.read(0, new Uint8Array(12 * P))),
              code(() => mapping.check()),
            ];
            return { first, sealed, refused, mappings, means, pages, checked, state: mapping.state };
          },
          { input: { kind, path }, leave: 'exit' },
        );
        const revoked = 'ERR_MAPPING_REVOKED';
        const owned = kind.startsWith('owned');
        expect(result).toMatchObject({
          first: 0x33,
          sealed: 0,
          refused: ['EPERM', 'EPERM', 'EPERM', 'EPERM', 'EPERM'],
          checked: [revoked, revoked, revoked, revoked, revoked],
          mappings: owned ? 2 : 1, // the other one filled it
          state: 'revoked',
        });
        expect(result.means).toEqual({ truncated: owned, replaced: owned ? 1 : 0, protected: 1, failed: 0 });
        // Not silently live: the kernel finds nothing there either.
        expect(result.pages).toBe('-'.repeat(12));
      },
    );
  }

  testUnless(
    whyNot,
    'case 40 (mseal test_seal_mmap_overwrite_prot): two mappings, one of them sealed: the other is replaced, the report tells them apart',
    async () => {
      const result = await survivingChild(
        (lib, k) => {
          const memory = lib.MemoryObject.create({ size: k.PAGE });
          const sealed = memory.map();
          const free = memory.map();
          free.write8(0, 0x44);
          k.mseal(sealed.address, k.PAGE);
          const { mappings, means } = memory.revokeSync();
          return {
            mappings,
            means,
            pages: [sealed, free].map((mapping) => k.readablePages(mapping.address, k.PAGE)),
            raw: free.bytes[0],
          };
        },
        { leave: 'exit' },
      );
      expect(result).toEqual({
        mappings: 2,
        means: { truncated: true, replaced: 1, protected: 1, failed: 0 },
        pages: ['-', '-'],
        raw: 0,
      });
    },
  );

  testUnless(
    whyNot,
    'case 41 (mseal test_seal_discard_ro_anon_on_filebacked): sealing blocks neither DONTNEED nor zap of a shared read-only mapping',
    async () => {
      const path = temporaryFile(4 * PAGE, 0x33);
      const result = await survivingChild(
        (lib, k, input: string) => {
          const memory = lib.MemoryObject.openFile(input);
          const mapping = memory.map();
          const before = mapping.read8(0);
          const sealed = k.mseal(mapping.address, 4 * k.PAGE);
          const discarded = k.madvise(mapping.address, 4 * k.PAGE, k.MADV.DONTNEED);
          memory.zap();
          mapping.advise('dontneed');
          return {
            before,
            sealed,
            discarded,
            after: mapping.read8(0),
            unmapped: k.errorName(k.munmap(mapping.address, 4 * k.PAGE)),
          };
        },
        { input: path, leave: 'exit' },
      );
      expect(result).toEqual({ before: 0x33, sealed: 0, discarded: 0, after: 0x33, unmapped: 'EPERM' });
      expect(readFileSync(path)[0]).toBe(0x33);
    },
  );

  testUnless(
    whyNot,
    'case 41 (mseal test_seal_discard_ro_anon_on_filebacked): sealing does not block truncation, seen by the kernel and by bulk copies',
    async () => {
      const result = await survivingChild(
        (lib, k, input: string) => {
          const memory = lib.MemoryObject.openFile(input, { writable: true });
          const mapping = memory.map();
          const before = mapping.read8(3 * k.PAGE);
          k.mseal(mapping.address, 4 * k.PAGE);
          k.ftruncate(memory.fd, k.PAGE);
          const pages = k.readablePages(mapping.address, 4 * k.PAGE);
          let copied: unknown;
          try {
            copied = mapping.read(0, new Uint8Array(4 * k.PAGE));
          } catch (error) {
            const { code, cause, bytesTransferred } = error as { code: string; cause: unknown; bytesTransferred: number };
            copied = { code, cause, bytesTransferred };
          }
          return { before, pages, copied };
        },
        { input: temporaryFile(4 * PAGE, 0x33), leave: 'exit' },
      );
      expect(result).toEqual({
        before: 0x33,
        pages: 'R---',
        copied: { code: 'ERR_BACKING_FAULT', cause: 'past-end', bytesTransferred: PAGE },
      });
    },
  );

  testUnless(
    whyNot,
    'case 41 (mseal test_seal_discard_ro_anon_on_filebacked): a bulk copy that met the end of a sealed file leaves its head live',
    async () => {
      const result = await survivingChild(
        (lib, k, input: string) => {
          const memory = lib.MemoryObject.openFile(input, { writable: true });
          const mapping = memory.map();
          k.mseal(mapping.address, 4 * k.PAGE);
          k.ftruncate(memory.fd, k.PAGE);
          try {
            mapping.read(0, new Uint8Array(4 * k.PAGE));
          } catch {
            return { state: mapping.state, head: k.readablePages(mapping.address, 4 * k.PAGE) };
          }
          throw new Error('the copy went past the end');
        },
        { input: temporaryFile(4 * PAGE, 0x33), leave: 'exit' },
      );
      expect(result).toEqual({ state: 'live', head: 'R---' });
    },
  );

  // Not promised, and not tested: a checked read of a *live* sealed mapping past the end of its file. Nothing can be mapped there for
  // the load to complete with, and nothing made the accessor look first. See docs/explanation/unsafe.md.

  // Not of a SharedArrayBuffer: V8 insists on unmapping its memory, and aborts when a seal forbids it. See docs/explanation/unsafe.md.
  testUnless(whyNot, 'case 41 (mseal): a process with a sealed mapping in an ArrayBuffer ends by itself', async () => {
    const { status, signal, stderr } = await runInChild((lib, require) => {
      const k = require('./test/children/kernel-calls.cjs') as KernelCalls;
      const mapping = lib.MemoryObject.create({ size: k.PAGE }).map({ shared: false });
      k.mseal(mapping.address, k.PAGE);
      return mapping.read8(0);
    });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  });

  testUnless(
    whyNot,
    'case 41 (mseal): a sealed mapping in an ArrayBuffer that is revoked, closed and collected does not end the process',
    async () => {
      const { status, signal, stderr } = await runInChild(
        async (lib, require) => {
          const k = require('./test/children/kernel-calls.cjs') as KernelCalls;
          const sealAndForget = (): void => {
            const memory = lib.MemoryObject.create({ size: k.PAGE });
            const mapping = memory.map({ shared: false });
            k.mseal(mapping.address, k.PAGE);
            memory.revokeSync();
            memory.close();
          };
          for (let i = 0; i < 5; i++) {
            sealAndForget();
            global.gc!();
            await new Promise((resolve) => setImmediate(resolve));
          }
          process.exit(0);
        },
        { nodeArgs: ['--expose-gc'] },
      );
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    },
  );
});
