/** node --expose-gc memory_child.mjs COUNT: prints the resident KiB that each of COUNT mappings costs this process. */
import { MemoryObject, type Mapping } from 'revocable-mmap';

const count = Number(process.argv[2]);

async function residentKib(): Promise<number> {
  for (let i = 0; i < 5; i++) {
    globalThis.gc?.();
    await new Promise((resolve) => setImmediate(resolve)); // what was collected is given back on a later turn
  }
  return process.memoryUsage.rss() / 1024;
}

/** V8's nursery, once touched, stays resident whatever lives in it: it is not a mapping's to pay for. */
function fillNursery(): unknown[] {
  let last: unknown[] = [];
  for (let i = 0; i < 500_000; i++) last = new Array(64).fill(i);
  return last;
}

fillNursery();
const object = MemoryObject.create({ size: 4096, name: 'bench' });
const held: Mapping[] = [object.map()]; // what the first one needs is not counted
const before = await residentKib();
for (let i = 0; i < count; i++) held.push(object.map());
console.log((((await residentKib()) - before) / count).toFixed(3));
if (held.length !== count + 1) process.exitCode = 1;
