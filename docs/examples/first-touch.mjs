// What the first touch of memory costs: with pages of 4 KiB, and with pages of 2 MiB.
import { MemoryObject } from 'revocable-mmap';
import { compare, pinThread, threadProcessors, touch } from 'revocable-mmap/bench';

const BYTES = 64 * 2 ** 20;
const MIB = 2 ** 20;

/** Nanoseconds a MiB of first touches, and the faults they took. */
function firstTouch(hugePages) {
  const object = MemoryObject.create({ size: BYTES, hugePages });
  const { totalNs, usage } = touch(object.map(), { stride: 4096, write: true });
  object.close();
  faults[hugePages ? '2 MiB' : '4 KiB'] = usage.minorFaults;
  return totalNs / (BYTES / MIB);
}

const faults = {};
pinThread(threadProcessors().at(-1)); // moving to another processor in the middle would be measured too

try {
  const { a, b, ratio } = await compare(
    () => firstTouch(false),
    () => firstTouch(true),
    { rounds: 15 },
  );
  console.log(`4 KiB pages: ${Math.round(a.median)} ns a MiB, ${faults['4 KiB']} faults for ${BYTES / MIB} MiB`);
  console.log(`2 MiB pages: ${Math.round(b.median)} ns a MiB, ${faults['2 MiB']} faults`);
  console.log(`ratio ${ratio.median.toFixed(2)} (${ratio.low.toFixed(2)} … ${ratio.high.toFixed(2)})`);
} catch (error) {
  if (error.code !== 'ENOMEM') throw error;
  console.log(`4 KiB pages: ${Math.round(firstTouch(false))} ns a MiB, ${faults['4 KiB']} faults for ${BYTES / MIB} MiB`);
  console.log(`2 MiB pages: ${error.message}`);
}
