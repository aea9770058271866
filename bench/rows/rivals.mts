/** What else one could use, as the subject; this library, doing the same work, as the baseline. */
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MemoryObject } from 'revocable-mmap';
import { cProgram } from '../baseline.mjs';
import { isSetUp } from '../extras.mjs';
import { arranged, inProcess } from '../in_process.mjs';
import { javaProgram, whyNoJava } from '../java.mjs';
import { createShm, libc, RIVALS, whyNot, type Libc, type Memory, type Rival } from '../rivals.mjs';
import type { Case, Row, Side } from '../row.mjs';
import { BYTES, checked, side, WORDS } from './access.mjs';
import { caughtFaults } from './fault.mjs';

const COPIED = 64 * 1024;
const COPIES = 256;
const MAPPED = 64 * 1024;
const MAPS = 1000;
const PAGES = 256;
const PAGE = 4096;
const TAKEN = 50;
/** System calls are few, where words are many. */
const CALLS = 4096;
/** The kind of file that a memfd is, where there is a place for it: what a page costs depends on it. */
const DIRECTORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Packages are loaded when the case comes up, and in its process: a run of other rows does not have them. */
function ofPackage(name: string | undefined, item: Case): Case {
  return Object.defineProperty(item, 'unavailable', { get: () => whyNot(name), enumerable: true });
}

function ofJava(item: Case): Case {
  return Object.defineProperty(item, 'unavailable', { get: whyNoJava, enumerable: true });
}

function row(id: string, title: string, cases: Case[]): Row {
  const byDefault = (quick: boolean): boolean => !quick && isSetUp();
  return { id: `rivals-${id}`, title, unit: 'ns', baselineName: 'revocable-mmap', quickCases: cases.length, byDefault, cases };
}

function filled({ make }: Rival, bytes: number): Memory {
  const memory = make(bytes);
  memory.bytes.fill(1);
  return memory;
}

function wordsOf(rival: Rival): Case {
  const subject = (): Side => {
    const { bytes, close } = filled(rival, BYTES);
    return side('from[i]', new Uint32Array(bytes.buffer, bytes.byteOffset, WORDS), close);
  };
  return ofPackage(rival.package, { label: `${rival.name}, Uint32Array`, subject, baseline: checked });
}

function bufferWords(rival: Rival): Case {
  const subject = (): Side => {
    const { bytes, close } = filled(rival, BYTES);
    return side('from.readUInt32LE(i * 4)', Buffer.from(bytes.buffer, bytes.byteOffset, BYTES), close);
  };
  return ofPackage(rival.package, { label: `${rival.name}, readUInt32LE`, subject, baseline: checked });
}

function wordsBySystemCall(): Side {
  const object = MemoryObject.create({ size: BYTES, name: 'bench' });
  const word = new Uint32Array(1);
  let sum = 0;
  const work = (): void => {
    for (let i = 0; i < CALLS; i++) {
      readSync(object.fd, word, 0, 4, i * 4);
      sum = (sum + word[0]) | 0;
    }
  };
  return inProcess(CALLS, work, () => {
    if (sum !== 0) throw new Error('there was something else in the memory');
    object.close();
  });
}

function copies(copy: () => void, close: () => void): Side {
  const work = (): void => {
    for (let i = 0; i < COPIES; i++) copy();
  };
  return inProcess(COPIES, work, close);
}

function copyOf(rival: Rival): Case {
  const subject = (): Side => {
    const { bytes, close } = filled(rival, COPIED);
    const target = new Uint8Array(COPIED);
    return copies(() => target.set(bytes), close);
  };
  return ofPackage(rival.package, { label: `${rival.name}, Uint8Array.set`, subject, baseline: checkedCopy });
}

function checkedCopy(): Side {
  const mapping = MemoryObject.create({ size: COPIED, name: 'bench' }).map();
  mapping.bytes.fill(1);
  const target = new Uint8Array(COPIED);
  return copies(
    () => void mapping.read(0, target),
    () => mapping.object.close(),
  );
}

function copyBySystemCall(): Side {
  const object = MemoryObject.create({ size: COPIED, name: 'bench' });
  object.map().bytes.fill(1);
  const target = new Uint8Array(COPIED);
  return copies(
    () => void readSync(object.fd, target, 0, COPIED, 0),
    () => object.close(),
  );
}

function maps(map: () => void, close: () => void): Side {
  const work = (): void => {
    for (let i = 0; i < MAPS; i++) map();
  };
  return inProcess(MAPS, work, close);
}

function koffiMaps(use: (calls: Libc, at: unknown) => void): () => Side {
  return () => {
    const calls = libc();
    const fd = calls.memfd(MAPPED);
    const map = (): void => {
      const at = calls.map(fd, MAPPED);
      use(calls, at);
      calls.unmap(at, MAPPED);
    };
    return maps(map, () => closeSync(fd));
  };
}

function mapsOf(use: (mapping: ReturnType<MemoryObject['map']>) => unknown): () => Side {
  return () => {
    const object = MemoryObject.create({ size: MAPPED, name: 'bench' });
    const map = (): void => {
      const mapping = object.map();
      use(mapping);
      mapping.close();
    };
    return maps(map, () => object.close());
  };
}

function createAndDestroy(): Side {
  const create = (): void => {
    const object = MemoryObject.create({ size: MAPPED, name: 'bench' });
    void object.map().bytes;
    object.close();
  };
  return maps(create, () => undefined);
}

interface Files {
  directory: string;
  descriptors: number[];
  objects: MemoryObject[];
}

/** Files each of which is mapped, and all of it written. */
function mappedFiles(): Files {
  const directory = mkdtempSync(join(DIRECTORY, 'revocable-bench-'));
  const descriptors = Array.from({ length: TAKEN }, (_, index) => openSync(join(directory, String(index)), 'w+'));
  const objects = descriptors.map((fd) => {
    ftruncateSync(fd, PAGES * PAGE);
    return MemoryObject.fromFd(fd, { writable: true });
  });
  for (const object of objects) object.map({ populate: true });
  return { directory, descriptors, objects };
}

function tidy({ directory, descriptors, objects }: Files): void {
  for (const object of objects) object.close();
  descriptors.forEach(closeSync);
  rmSync(directory, { recursive: true });
}

/** As an arena is closed: no thread of this process can reach the file's pages, which are as they were. */
function revokedFiles(): Side {
  const revoke = ({ objects }: Files): void => objects.forEach((object) => void object.revokeSync());
  return arranged(TAKEN, mappedFiles, revoke, tidy);
}

/** The memory itself is gone, for every process that has it mapped. */
function revokedMemory(): Side {
  return arranged(
    TAKEN,
    () => {
      const objects = Array.from({ length: TAKEN }, () => MemoryObject.create({ size: PAGES * PAGE, name: 'bench' }));
      for (const object of objects) object.map({ populate: true });
      return objects;
    },
    (objects) => objects.forEach((object) => void object.revokeSync()),
    (objects) => objects.forEach((object) => object.close()),
  );
}

const byName = (name: string): Rival => RIVALS.find((rival) => rival.package === name) as Rival;

export const rows: Row[] = [
  row('read', 'a 32-bit word of 1 MiB, in order; baseline: read32, checked', [
    ...RIVALS.map(wordsOf),
    bufferWords(byName('@riaskov/mmap-io')),
    { label: `fs.readSync of 4 bytes, ${CALLS} times`, subject: wordsBySystemCall, baseline: checked },
  ]),
  row('copy', '64 KiB into a Uint8Array; baseline: read(0, target), checked', [
    ...RIVALS.map(copyOf),
    { label: 'fs.readSync of 64 KiB', subject: copyBySystemCall, baseline: checkedCopy },
  ]),
  row('map', '64 KiB, mapped and unmapped; baseline: map(), close()', [
    ofPackage('koffi', {
      label: 'koffi: mmap, munmap',
      subject: koffiMaps(() => undefined),
      baseline: mapsOf(() => undefined),
    }),
    ofPackage('koffi', {
      label: 'koffi: mmap, view, munmap; bytes of both',
      subject: koffiMaps((calls, at) => calls.view(at, MAPPED)),
      baseline: mapsOf((mapping) => mapping.bytes),
    }),
    ofPackage('shm-typed-array', {
      label: 'shm-typed-array: create, detach; new memory on both sides',
      subject: () =>
        maps(
          () => createShm(MAPPED).close(),
          () => undefined,
        ),
      baseline: createAndDestroy,
    }),
    ofJava({
      label: 'Java: FileChannel.map, Arena.close',
      subject: () => javaProgram('Arenas', ['map', DIRECTORY, MAPPED, MAPS]),
      baseline: mapsOf(() => undefined),
    }),
  ]),
  row('fault', 'first touch of a truncated file, to the caught error', [
    { label: 'C: sigsetjmp, siglongjmp', subject: () => cProgram('fault', [tmpdir()]), baseline: () => caughtFaults() },
    ofJava({
      label: 'Java: MappedByteBuffer, InternalError',
      subject: () =>
        javaProgram(
          'Truncated',
          ['cost', tmpdir()],
          ['-XX:CompileCommand=quiet', '-XX:CompileCommand=dontinline,Truncated::read'],
        ),
      baseline: () => caughtFaults(),
    }),
  ]),
  row('revoke', `${PAGES} mapped pages, taken back from all threads; baseline: revokeSync`, [
    ofJava({
      label: 'Java: Arena.close of a mapped file, which stays',
      subject: () => javaProgram('Arenas', ['close', DIRECTORY, PAGES * PAGE, TAKEN]),
      baseline: revokedFiles,
    }),
    ofJava({
      label: 'Java: Arena.close and truncate; the memory is gone',
      subject: () => javaProgram('Arenas', ['take', DIRECTORY, PAGES * PAGE, TAKEN]),
      baseline: revokedMemory,
    }),
  ]),
];
