/** Ordinary functions on registers: each variant that the C library has of them, on each kind of processor. */
import { describeTrapped, testUnless } from '../support/conditions.js';
import { strideOf } from '../support/rounds.js';
import { expectDelivered, flags, hasAvx512, isGlibc, NO_AVX512, observe, SSE2 } from '../support/register-functions.js';

const STRIDE = strideOf(1);
const FIRST = Date.now() % STRIDE;
/**
 * All the short lengths, and those around whole registers of 32 and of 64 bytes, where the C library takes another way; of the others
 * each fourth, from one that differs from run to run, where storms have a quarter of their rounds.
 */
const LENGTHS = Array.from({ length: 301 }, (_, length) => length).filter(
  (length) => length <= 66 || (length + 1) % 32 <= 2 || length % STRIDE === FIRST,
);
/** More than the C library's thresholds, as they are set here: `rep movsb`, and stores around the caches. */
const GREAT_LENGTHS = [513, 1025, 2100, 4200, 20_000];
/** Those for which comparing and searching have no other way than for greater ones. */
const GREATER_LENGTHS = GREAT_LENGTHS.slice(0, 3);

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

/** The C library's variants, and how each is chosen on a processor that has all. */
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

/** Fewer of the greater lengths where each byte is an access, and so a step. */
function lengthsFor({ slow }: (typeof VARIANTS)[0]): number[] {
  return LENGTHS.filter((length) => length <= 66 || !slow || length % 32 === 0);
}

describeTrapped('ordinary functions of the C library on registers', () => {
  for (const variant of VARIANTS) {
    testUnless(
      whyNot(variant.needs),
      `are delivered where the C library uses ${variant.name}, of every length`,
      async () => {
        const wanted = { lengths: lengthsFor(variant), places: ['end' as const, 37] };
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
        const tunables = [...tunablesOf(variant), ...thresholds.map(tunable)];
        const places = [37];
        expectDelivered(await observe({ names: IN_MEMORY, lengths: GREAT_LENGTHS, places, shared: true }, tunables));
        expectDelivered(await observe({ names: OF_BUFFERS, lengths: GREATER_LENGTHS, places, shared: false }, tunables));
      }
      expectDelivered(
        await observe({ names: IN_MEMORY, lengths: GREATER_LENGTHS, places: [37], shared: true }, strings.map(tunable)),
      );
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
});
