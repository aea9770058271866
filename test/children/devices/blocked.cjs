// blocked.cjs WHAT: a worker is blocked in a page whose op never answers, and WHAT happens. Prints what became of it.
const { Device } = require('revocable-mmap/device');
const { Worker } = require('node:worker_threads');
const { setTimeout: sleep } = require('node:timers/promises');

const device = new Device({
  name: 'silent',
  opTimeout: Number(process.argv[3] ?? 600_000),
  regions: [{ size: 4096 }],
  ops: { fault: () => new Promise(() => undefined) },
});
const mapping = device.open().map({ fill: 'ones' });
const worker = new Worker(
  `const { parentPort, workerData } = require('node:worker_threads');
   const mapping = require('revocable-mmap').Mapping.attach(workerData);
   try { mapping.read8(0); } catch (error) { parentPort.postMessage(error.code); }`,
  { eval: true, workerData: mapping.share() },
);
worker.on('message', (code) => console.log(code));

const happenings = {
  exit: () => process.exit(3),
  throw: () => {
    throw new Error('uncaught');
  },
  terminate: async () => {
    await worker.terminate();
    await device.unplug();
  },
  close: () => mapping.close(),
};

async function main() {
  while (device.opCounts.fault === 0) await sleep(1);
  process.nextTick(happenings[process.argv[2]]);
}

main();
