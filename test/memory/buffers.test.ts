/** docs/how-to/choose-a-buffer.md against the APIs themselves, on the Node that runs this. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryObject } from 'revocable-mmap';
import { runChild, runInChild } from '../support/child.js';
import { nodeMajor } from '../support/conditions.js';
import { temporaryDirectory } from '../support/temporary.js';

type Outcome = 'takes' | 'absent' | ['refuses' | 'wrong', string];

const REFUSAL =
  /SharedArrayBuffer|incompatible receiver|could not be cloned|must be an instance of ArrayBuffer|not a shared typed array/;
/** What the APIs that are silently wrong send. */
const SENT: Record<string, string> = {
  'new Response(bytes)': '104,101,108,108,111',
  'new Request(url, { body: bytes })': '104,101,108,108,111',
  'fetch(url, { body: bytes })': '104,101,108,108,111',
  'new Response(buffer)': '[object SharedArrayBuffer]',
};

/** `refuses; from Node 24: wrong`: what holds for this Node. */
function verdictIn(cell: string): string {
  const [first, ...later] = cell.split('; ').map((part) => part.trim());
  const versions = later.map((part) => /^from Node (\d+): (\w+)$/.exec(part)!.slice(1));
  return versions.reduce((verdict, [from, next]) => (nodeMajor() >= Number(from) ? next : verdict), first);
}

function documented(): Map<string, [shared: string, unshared: string]> {
  const document = readFileSync(join(__dirname, '..', '..', 'docs', 'how-to', 'choose-a-buffer.md'), 'utf8');
  const rows = [...document.matchAll(/^\| (.+?) +\| (.+?) +\| (.+?) +\|$/gm)].map((match) => match.slice(1));
  const apis = rows.filter(([api]) => api !== 'API' && !/^-+$/.test(api));
  return new Map(apis.map(([api, shared, unshared]) => [api.replaceAll('`', ''), [verdictIn(shared), verdictIn(unshared)]]));
}

const rows = documented();

describe('docs/how-to/choose-a-buffer.md says what an API does with a mapping', () => {
  let outcomes: Record<string, [shared: Outcome, unshared: Outcome]>;
  beforeAll(async () => {
    const { status, signal, stdout, stderr } = await runChild('buffer-uses.cjs', {
      args: [temporaryDirectory()],
      nodeArgs: ['--no-warnings'],
    });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    outcomes = JSON.parse(stdout) as typeof outcomes;
  });

  test('it names what is tested, and nothing else', () => {
    expect(rows.size).toBeGreaterThan(60);
    expect([...rows.keys()].sort()).toEqual(Object.keys(outcomes).sort());
  });

  test.each([...rows])('%s', (api, verdicts) => {
    expect(outcomes[api].map((outcome) => (Array.isArray(outcome) ? outcome[0] : outcome))).toEqual(verdicts);
    for (const outcome of outcomes[api]) {
      if (!Array.isArray(outcome)) continue;
      const [verdict, detail] = outcome;
      if (verdict === 'refuses') expect(detail).toMatch(REFUSAL);
      else expect(detail).toBe(SENT[api]);
    }
  });
});

test('with shared: false a byte stream takes the buffer away from the mapping', async () => {
  const { status, signal, stderr, value } = await runInChild(async ({ MemoryObject }) => {
    const mapping = MemoryObject.create({ size: 4096 }).map({ shared: false });
    const stream = new ReadableStream({ type: 'bytes', start: (controller) => controller.enqueue(mapping.bytes) });
    const before = mapping.read8(0);
    await stream.cancel();
    return [mapping.bytes.length, before];
  });
  expect([status, signal, stderr, value]).toEqual([0, null, '', [0, 0]]);
});

describe('typed arrays over a mapping', () => {
  const SIZE = 256;
  type Words = Pick<Uint8Array, 'set' | 'slice'>;
  interface WordsType {
    readonly name: string;
    readonly BYTES_PER_ELEMENT: number;
    new (buffer: ArrayBufferLike, offset?: number, length?: number): Words;
  }
  const TYPES = [Uint8Array, Uint16Array, Int32Array, Float32Array, Float64Array, BigInt64Array] as unknown as WordsType[];

  /** Distances, in elements, by which a set() over itself gives another result than one from a copy. */
  function wrongMoves(Type: WordsType, shared: boolean, withLength: boolean): number[] {
    const { buffer } = MemoryObject.create({ size: SIZE }).map({ shared });
    const all = new Uint8Array(buffer, 0, SIZE);
    const count = SIZE / Type.BYTES_PER_ELEMENT;
    const target = withLength ? new Type(buffer, 0, count) : new Type(buffer);
    const wrong: number[] = [];
    for (let distance = -count + 1; distance < count; distance++) {
      const moved = count - Math.abs(distance);
      const [from, to] = distance > 0 ? [0, distance] : [-distance, 0];
      all.forEach((_, i) => (all[i] = i));
      const source = new Type(buffer, from * Type.BYTES_PER_ELEMENT, moved);
      const copy = new Uint8Array(all);
      new Type(copy.buffer).set(source.slice(), to);
      target.set(source as never, to);
      if (Buffer.compare(all, copy) !== 0) wrong.push(distance);
    }
    return wrong;
  }

  test.each(TYPES.map((Type) => [Type.name, Type] as const))('%s: set() over itself', (_, Type) => {
    expect(wrongMoves(Type, true, true)).toEqual([]);
    expect(wrongMoves(Type, false, true)).toEqual([]);
    expect(wrongMoves(Type, false, false)).toEqual([]);
    const upwards = wrongMoves(Type, true, false);
    if (Type.BYTES_PER_ELEMENT === 1) return expect(upwards).toEqual([]);
    // All that overlap: the source begins before the target, and there is more than what is moved without overlap.
    const overlapping = Array.from({ length: SIZE / Type.BYTES_PER_ELEMENT }, (_value, i) => i);
    expect(upwards).toEqual(overlapping.filter((distance) => distance > 0 && distance < overlapping.length / 2));
  });
});
