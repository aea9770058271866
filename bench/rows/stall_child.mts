/** node --expose-gc stall_child.mjs COUNT: prints the longest stall of the event loop, in ms, while COUNT mappings are revoked. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { MemoryObject } from 'revocable-mmap';

const RESOLUTION_MS = 1;
const CALM_MS = 100;
/** Events are emitted after the promise has resolved. */
const AFTERWARDS_MS = 100;

const WARM_UP = 10_000;

const count = Number(process.argv[2]);
// What V8 does once is not measured: optimising the code that tells of thousands of revocations takes it some milliseconds.
await revoking(WARM_UP);
const object = MemoryObject.create({ size: 4096, name: 'bench' });
const held = Array.from({ length: count }, () => object.map({ populate: true }));
await settle();

async function revoking(mappings: number): Promise<void> {
  const memory = MemoryObject.create({ size: 4096, name: 'warm-up' });
  const all = Array.from({ length: mappings }, () => memory.map({ populate: true }));
  await memory.revoke();
  await settle();
  for (const mapping of all) mapping.close();
  await settle();
}

/** As in a program that has been running: the mappings are not young any more, and nothing is being collected. */
async function settle(): Promise<void> {
  globalThis.gc?.();
  await setTimeout(CALM_MS);
}

const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delays.enable();
await setTimeout(10 * RESOLUTION_MS);
delays.reset();
const { mappings } = await object.revoke();
await setTimeout(AFTERWARDS_MS);
delays.disable();
if (mappings !== held.length) throw new Error(`${mappings} of ${held.length} mappings were revoked`);
console.log((delays.max / 1e6 - RESOLUTION_MS).toFixed(3));
