// The package is loaded in workers only, one after the other, and in the main thread last or never: l3-worker-only.cjs `never`|`last`
const { Worker } = require('node:worker_threads');

const code = `
  const { parentPort } = require('node:worker_threads');
  const { MemoryObject } = require(${JSON.stringify(require.resolve('revocable-mmap'))});
  const object = MemoryObject.create({ size: 4096 });
  const mapping = object.map({ fill: 'ones' });
  mapping.write32(0, 7);
  const before = mapping.read32(0);
  object.revokeSync();
  parentPort.postMessage([before, mapping.bytes[0], mapping.buffer]);`;

async function main() {
  const seen = [];
  const stale = [];
  for (let i = 0; i < 3; i++) {
    const worker = new Worker(code, { eval: true });
    const exit = new Promise((resolve) => worker.once('exit', resolve));
    const [before, raw, buffer] = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    stale.push(new Uint8Array(buffer));
    seen.push([before, raw, await exit]);
  }
  // The workers' mappings ended with them; their buffers are still here.
  const left = stale.map((bytes) => ((bytes[1] = 5), [bytes[0], bytes[1]]));
  let later = null;
  if (process.argv[2] === 'last') {
    const { MemoryObject } = require('revocable-mmap');
    const object = MemoryObject.create({ size: 4096 });
    const mapping = object.map();
    mapping.write32(0, 9);
    const before = mapping.read32(0);
    object.revokeSync();
    later = [before, mapping.bytes[0], mapping.state];
  }
  console.log(JSON.stringify({ seen, left, later }));
}

main();
