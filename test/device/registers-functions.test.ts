/** Ordinary functions on registers: what V8 and Node make of them, and the C library's own choice for this processor and older ones. */
import { describeTrapped, nodeMajor } from '../support/conditions.js';
import { expectDelivered, flags, hasAvx512, isGlibc, observe, SSE2 } from '../support/register-functions.js';

const SOME_LENGTHS = [0, 1, 2, 3, 5, 8, 13, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 200, 256, 257, 300];
const SCALARS = ['every access', 'every instruction'];

describeTrapped('ordinary functions on registers', () => {
  for (const shared of [true, false]) {
    test(`of Buffer, typed arrays, texts, hashes and zlib are delivered, ${shared ? 'shared' : 'exact'}`, async () => {
      const wanted = { lengths: SOME_LENGTHS, places: ['start' as const, 'end' as const, 64], shared };
      // What lies between the two is in registers-libc.test.ts, for the functions that use it.
      for (const hwcaps of hasAvx512 ? [[], [...SSE2, '-SSSE3']] : [[]]) {
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
