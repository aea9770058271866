/** Ordinary functions on registers: what the C library, V8 and Node make of them on each kind of processor. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { runChild } from '../support/child.js';
import { describeTrapped, nodeMajor, testUnless } from '../support/conditions.js';
import { rounds } from '../support/rounds.js';
import { ACCESSES } from '../support/wasm.js';
import { INSTRUCTIONS, INSTRUCTIONS_PROGRAM } from '../support/wasm-instructions.js';

const EVERY_LENGTH = Array.from({ length: 301 }, (_, length) => length);
const SOME_LENGTHS = [0, 1, 2, 3, 5, 8, 13, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 200, 256, 257, 300];
/** More than the C library's thresholds, as they are set here: `rep movsb`, and stores around the caches. */
const GREAT_LENGTHS = [513, 1025, 2100, 4200, 20_000];

const IN_MEMORY = ['memory.fill', 'memory.copy, into', 'memory.copy, out of', 'memory.copy, upwards', 'memory.copy, downwards'];
const OF_BUFFERS = [
  'Buffer.fill, a byte',
  'Buffer.copy, into',
  'Buffer.copy, out of',
  'Buffer.copy, within',
  'Buffer.compare',
  'Buffer.compare, unequal',
  'Buffer.equals',
  'Buffer.indexOf, a byte',
  'Buffer.lastIndexOf, a byte',
];
const SCALARS = ['every access', 'every instruction'];

interface Seen {
  calls: number;
  reads: number;
  writes: number;
  /** Most bytes that were read besides those that had to be. */
  beyond: number;
  refused: number;
}

interface Result {
  functions: Record<string, Seen>;
  failures: string[];
  /** Where the C library's memset, memmove, memcmp and memchr are. */
  variants: string[];
}

interface Wanted {
  /** All that there are, if left out. */
  names?: string[];
  lengths: number[];
  places: (number | 'start' | 'end')[];
  /** A SharedArrayBuffer, which V8 and Node fill byte by byte where they call the C library for others. */
  shared: boolean;
}

async function observe(wanted: Wanted, tunables: string[] = [], nodeArgs: string[] = []): Promise<Result> {
  const given = {
    ...wanted,
    program: Buffer.from(ACCESSES).toString('base64'),
    instructions: INSTRUCTIONS,
    instructionsProgram: Buffer.from(INSTRUCTIONS_PROGRAM).toString('base64'),
  };
  const { status, signal, stdout, stderr } = await runChild('devices/register-functions.cjs', {
    args: [JSON.stringify(given)],
    env: { GLIBC_TUNABLES: tunables.join(':') },
    nodeArgs,
    limit: 400_000,
  });
  if (status !== 0) throw new Error(`status ${status}, signal ${signal}\n${stdout.slice(0, 4000)}\n${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Result;
}

/** Everything reached the model, and nothing else did. */
function expectDelivered({ functions, failures }: Result): void {
  expect(failures).toEqual([]);
  const seen = Object.entries(functions);
  expect(seen.filter(([, { refused }]) => refused > 0)).toEqual([]);
  expect(seen.filter(([, { calls, reads, writes }]) => calls === 0 || reads + writes === 0)).toEqual([]);
}

const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].split(' '));
const hasAvx512 = flags.has('avx512vl') && flags.has('avx512bw');
const isGlibc = spawnSync('getconf', ['GNU_LIBC_VERSION'], { encoding: 'utf8' }).stdout?.startsWith('glibc') === true;

/** The C library's variants, and how each is chosen on a processor that has all. */
const NO_AVX512 = ['-AVX512F', '-AVX512VL'];
const SSE2 = [...NO_AVX512, '-AVX2', '-AVX_Fast_Unaligned_Load'];
const VARIANTS: { name: string; hwcaps: string[]; tunables?: string[]; needs?: string; slow?: boolean }[] = [
  { name: 'AVX-512', hwcaps: [], needs: 'avx512vl' },
  { name: 'EVEX of 32 bytes', hwcaps: ['-AVX512F'], needs: 'avx512vl' },
  { name: 'AVX-512 as Xeon Phi has it', hwcaps: ['-AVX512VL'], needs: 'avx512vl' },
  { name: 'AVX2', hwcaps: NO_AVX512, needs: 'avx2' },
  { name: 'AVX2 without ERMS', hwcaps: [...NO_AVX512, '-ERMS'], needs: 'avx2' },
  { name: 'SSSE3', hwcaps: SSE2 },
  { name: 'SSE2', hwcaps: [...SSE2, '-SSSE3'] },
  { name: 'rep movsb and rep stosb', hwcaps: ['Prefer_ERMS'], needs: 'erms', slow: true },
  { name: 'rep movsb for any length', hwcaps: ['Prefer_FSRM'], needs: 'fsrm', slow: true },
  { name: 'rep stosb for any length', hwcaps: [], tunables: ['glibc.cpu.x86_rep_stosb_threshold=1'], needs: 'erms', slow: true },
];
const tunablesOf = ({ hwcaps, tunables = [] }: (typeof VARIANTS)[0]): string[] => [
  `glibc.cpu.hwcaps=${hwcaps.join(',')}`,
  ...tunables,
];

function whyNot(needs: string | undefined): string | undefined {
  if (!isGlibc) return 'the C library is not glibc';
  return needs === undefined || flags.has(needs) ? undefined : `the processor has no ${needs}`;
}

/** Of lengths and places, a part that depends on the variant, where an access is a step of each byte, or a storm is made smaller. */
function thinned(lengths: number[], slow: boolean | undefined): number[] {
  const step = Math.max(1, Math.round((slow ? 4 : 1) * (100 / rounds(100))));
  return lengths.filter((length) => length <= 66 || length % step === 0);
}

describeTrapped('ordinary functions on registers', () => {
  for (const variant of VARIANTS) {
    testUnless(
      whyNot(variant.needs),
      `are delivered where the C library uses ${variant.name}, of every length`,
      async () => {
        const wanted = { lengths: thinned(EVERY_LENGTH, variant.slow), places: ['end' as const, 37] };
        const tunables = tunablesOf(variant);
        expectDelivered(await observe({ ...wanted, names: IN_MEMORY, shared: true }, tunables));
        expectDelivered(await observe({ ...wanted, names: OF_BUFFERS, shared: false }, tunables));
      },
      800_000,
    );
  }

  testUnless(
    whyNot(undefined),
    'are delivered where the C library uses what it has for great lengths',
    async () => {
      // Stores around the caches, of what is greater than this; and strings, of what is greater than this, or never.
      const thresholds = ['non_temporal_threshold=0x4040', 'rep_movsb_threshold=0x100000', 'rep_stosb_threshold=0x100000'];
      const strings = ['rep_movsb_threshold=0x200', 'rep_stosb_threshold=0x200'];
      const tunable = (threshold: string): string => `glibc.cpu.x86_${threshold}`;
      for (const variant of VARIANTS.filter(({ slow, needs }) => !slow && whyNot(needs) === undefined)) {
        const wanted = { lengths: GREAT_LENGTHS, places: [37] };
        const tunables = [...tunablesOf(variant), ...thresholds.map(tunable)];
        expectDelivered(await observe({ ...wanted, names: IN_MEMORY, shared: true }, tunables));
        expectDelivered(await observe({ ...wanted, names: OF_BUFFERS, shared: false }, tunables));
      }
      const lengths = GREAT_LENGTHS.slice(0, 3);
      expectDelivered(await observe({ names: IN_MEMORY, lengths, places: [37], shared: true }, strings.map(tunable)));
    },
    800_000,
  );

  testUnless(
    whyNot(hasAvx512 ? undefined : 'avx512vl'),
    'are run with another variant of the C library for each choice',
    async () => {
      const of = async (hwcaps: string[]): Promise<string[]> => {
        const wanted = { names: ['memory.fill'], lengths: [1], places: [37], shared: true };
        return (await observe(wanted, [`glibc.cpu.hwcaps=${hwcaps.join(',')}`])).variants;
      };
      const chosen = await Promise.all(VARIANTS.filter(({ tunables }) => tunables === undefined).map(({ hwcaps }) => of(hwcaps)));
      // memset and memmove as a pair: each choice has one of its own.
      expect(new Set(chosen.map(([memset, memmove]) => `${memset} ${memmove}`)).size).toBe(chosen.length);
      // memcmp and memchr: EVEX, AVX2, SSE2.
      for (const i of [2, 3]) expect(new Set(chosen.map((addresses) => addresses[i])).size).toBe(3);
    },
    400_000,
  );

  for (const shared of [true, false]) {
    test(`of Buffer, typed arrays, texts, hashes and zlib are delivered, ${shared ? 'shared' : 'exact'}`, async () => {
      const wanted = { lengths: SOME_LENGTHS, places: ['start' as const, 'end' as const, 64], shared };
      for (const hwcaps of hasAvx512 ? [[], NO_AVX512, [...SSE2, '-SSSE3']] : [[]]) {
        expectDelivered(await observe(wanted, isGlibc ? [`glibc.cpu.hwcaps=${hwcaps.join(',')}`] : []));
      }
    }, 800_000);
  }

  test('read besides what they are asked for less than 64 bytes, and only those that compare and look for bytes', async () => {
    const { functions } = await observe({ lengths: SOME_LENGTHS, places: ['end', 37], shared: false });
    for (const [name, { beyond }] of Object.entries(functions)) {
      expect(beyond).toBeLessThan(64);
      if (beyond > 0 && flags.has('avx2'))
        expect(name).toMatch(/^Buffer\.(indexOf|lastIndexOf|compare|equals|toString, utf16le)/);
    }
  }, 400_000);

  // Each of V8's compilers, alone as far as it can be.
  const TIERS = [
    ['Ignition', '--no-opt --no-maglev --no-sparkplug'],
    ['Sparkplug', '--always-sparkplug --no-opt --no-maglev'],
    ...(nodeMajor() >= 22 ? [['Maglev', '--maglev --no-turbofan']] : []),
    ['TurboFan', '--no-maglev'],
    ['Liftoff', '--liftoff-only'],
    ['TurboFan of WebAssembly', '--no-liftoff'],
    ['all of them without AVX', '--no-enable-avx --no-enable-avx2'],
  ];
  test.each(TIERS)(
    'loads, stores and Atomics of every width are delivered from %s',
    async (_, given) => {
      const result = await observe({ names: SCALARS, lengths: [300, 300], places: [64], shared: true }, [], given.split(' '));
      expectDelivered(result);
    },
    400_000,
  );
});
