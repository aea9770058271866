import { isRevokedError, MemoryObject, type Mapping } from 'revocable-mmap';
import { inProcess } from '../in_process.mjs';
import type { Row, Side } from '../row.mjs';

export const BYTES = 1 << 20;
export const WORDS = BYTES / 4;

function mapped(): Mapping {
  return MemoryObject.create({ size: BYTES, name: 'bench' }).map({ populate: true });
}

let loops = 0;

// Each loop is made anew for its side, and of a text of its own: functions that share a text share what V8 has learned about it, and one
// that has seen two kinds of array is slow for both.
function loop(body: string, words: number): (from: unknown) => number {
  const text = `let sum = 0; for (let i = 0; i < ${words}; i++) sum = (sum + ${body}) | 0; return sum; // ${loops++}`;
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the text is ours
  return new Function('from', text) as (from: unknown) => number;
}

function compiled(body: string, from: unknown, words = WORDS): () => number {
  const run = loop(body, words);
  for (let i = 0; i < 20; i++) run(from); // until it is optimised
  return () => run(from);
}

export function side(body: string, from: unknown, close?: () => void, words = WORDS): Side {
  return inProcess(words, compiled(body, from, words), close);
}

function ofMapping(body: string, view: (mapping: Mapping) => unknown): () => Side {
  return () => {
    const mapping = mapped();
    return side(body, view(mapping), () => mapping.object.close());
  };
}

const CHECKED = 'from.read32(i * 4)';
export const checked = ofMapping(CHECKED, (mapping) => mapping);

/** Others have been read before, in compiled loops, and are still there: what V8 has learned of those counts. */
function checkedAfterOthers(): Side {
  const others = Array.from({ length: 4 }, mapped);
  for (const other of others) compiled(CHECKED, other);
  const subject = checked();
  return { ...subject, close: () => [...others.map(({ object }) => object), subject].forEach((made) => void made.close?.()) };
}

/** A read has failed, in a compiled loop. */
function checkedAfterFailure(): Side {
  const other = mapped();
  const read = compiled(CHECKED, other);
  other.object.revokeSync();
  try {
    read();
    throw new Error('the memory has been revoked, and could be read');
  } catch (error) {
    if (!isRevokedError(error)) throw error;
  }
  other.object.close();
  return checked();
}

const raw = ofMapping('from[i]', (mapping) => new Uint32Array(mapping.buffer, mapping.bytes.byteOffset, WORDS));

export const rows: Row[] = [
  {
    id: 'checked-read',
    title: 'checked read32, bounds and alignment validated',
    unit: 'ns',
    baselineName: 'raw typed array',
    oneProcessor: true,
    target: { atMost: 5 },
    quickCases: 2,
    cases: [
      { label: '1 MiB in order', subject: checked, baseline: raw },
      { label: 'after four other mappings', subject: checkedAfterOthers, baseline: raw },
    ],
  },
  {
    id: 'checked-read-failed',
    title: 'the same, after a read of the thread has failed',
    unit: 'ns',
    baselineName: 'raw typed array',
    oneProcessor: true,
    target: { atMost: 3 },
    cases: [{ label: '1 MiB in order', subject: checkedAfterFailure, baseline: raw }],
  },
  {
    id: 'checked-read-native',
    title: 'checked read32',
    unit: 'ns',
    baselineName: 'one native call',
    oneProcessor: true,
    target: { atMost: 1 / 8 },
    cases: [{ label: '1 MiB in order', subject: checked, baseline: ofMapping('from.faults', (mapping) => mapping) }],
  },
  {
    id: 'raw-view',
    title: 'raw typed array while live',
    unit: 'ns',
    baselineName: 'plain SharedArrayBuffer',
    oneProcessor: true,
    target: { atMost: 1.05 },
    cases: [
      {
        label: '1 MiB in order',
        subject: raw,
        baseline: () => side('from[i]', new Uint32Array(new SharedArrayBuffer(BYTES)).fill(1)),
      },
    ],
  },
];
