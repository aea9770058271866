/** How costs grow with the size of a mapping, and with how many other mappings there are. */
import { MemoryObject, type Mapping } from 'revocable-mmap';
import { touch } from 'revocable-mmap/bench';
import { cProgram } from '../baseline.mjs';
import { inProcess } from '../in_process.mjs';
import type { Case, Row, Side } from '../row.mjs';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const SIZES = [4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, 4 * GIB];
const TIMES = 500;

function bytes(count: number): string {
  const [unit, name] = count >= GIB ? [GIB, 'GiB'] : count >= MIB ? [MIB, 'MiB'] : [KIB, 'KiB'];
  return `${count / unit} ${name}`;
}

/** Maps and closes `size` bytes while `others` are mapped too. */
function mapAndClose(size: number, others: number): Side {
  const object = MemoryObject.create({ size, name: 'bench' });
  const rest = MemoryObject.create({ size: 4 * KIB, name: 'others' });
  const held: Mapping[] = Array.from({ length: others }, () => rest.map());
  const work = (): void => {
    for (let i = 0; i < TIMES; i++) object.map().close();
  };
  return inProcess(TIMES, work, () => {
    if (held.length !== others) throw new Error('mappings were lost');
    object.close();
    rest.close();
  });
}

/** The first touch of each page of a new mapping, in nanoseconds a page. */
function firstTouch(size: number): Side {
  return {
    sample() {
      const object = MemoryObject.create({ size, name: 'bench' });
      const { totalNs, accesses } = touch(object.map(), { write: true });
      object.close();
      return totalNs / accesses;
    },
  };
}

function ofSize(size: number, subject: () => Side, baseline: () => Side): Case {
  return { label: bytes(size), size, subject, baseline };
}

export const rows: Row[] = [
  {
    id: 'map-size',
    title: 'map() and close(), as the size grows',
    unit: 'ns',
    baselineName: 'C mmap and munmap',
    sizeName: 'size of the mapping, bytes',
    cases: SIZES.map((size) =>
      ofSize(
        size,
        () => mapAndClose(size, 0),
        () => cProgram('map_close', [size, 0]),
      ),
    ),
  },
  {
    id: 'map-among',
    title: 'map() and close() of 64 KiB, as other mappings grow',
    unit: 'ns',
    baselineName: 'C mmap and munmap',
    sizeName: 'other mappings',
    cases: [1, 10, 100, 1000, 10_000, 40_000].map((others) => ({
      label: `${others.toLocaleString('en')} others`,
      size: others,
      subject: () => mapAndClose(64 * KIB, others),
      baseline: () => cProgram('map_close', [64 * KIB, others]),
    })),
  },
  {
    id: 'first-touch',
    title: 'first touch of a page, by the loop of revocable-mmap/bench',
    unit: 'ns',
    baselineName: 'C loop',
    sizeName: 'size of the mapping, bytes',
    cases: [4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB].map((size) =>
      ofSize(
        size,
        () => firstTouch(size),
        () => cProgram('first_touch', [size]),
      ),
    ),
  },
];
