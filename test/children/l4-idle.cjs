// A program that has nothing more to do: l4-idle.cjs WHAT. What it leaves open must not keep it alive.
const { ftruncateSync, readFileSync, readdirSync } = require('node:fs');

const what = process.argv[2];

function state() {
  const status = readFileSync('/proc/self/status', 'utf8');
  const masks = Object.fromEntries(
    ['SigBlk', 'SigIgn', 'SigCgt'].map((name) => [name, new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)[1]]),
  );
  return {
    ...masks,
    handles: process.getActiveResourcesInfo().filter((name) => name !== 'PipeWrap' && name !== 'TTYWrap').length,
    threads: readdirSync('/proc/self/task').length,
    fds: readdirSync('/proc/self/fd').length,
    listeners: process.eventNames().map((name) => `${String(name)} ${process.listenerCount(name)}`),
  };
}

const before = state();
const lib = require('revocable-mmap');
if (what === 'import') {
  console.log(JSON.stringify({ before, after: state() }));
} else {
  const object = lib.MemoryObject.create({ size: 8192 });
  const mapping = object.map();
  globalThis.held = mapping; // listeners do not hold it, and V8 may collect as soon as this script has run
  mapping.write32(0, 1);
  for (const name of ['revoked', 'fault', 'close']) mapping.on(name, () => console.log(name));
  for (const name of ['revoked', 'suspended', 'resumed', 'fault', 'close']) object.on(name, () => console.log(`object ${name}`));
  void object.signal;
  const steps = {
    open: () => undefined,
    revoked: () => object.revokeSync(),
    'revoke-pending': () => void object.revoke(),
    suspended: () => void object.suspend(),
    faulted: () => {
      // Lost once and for all. A forbidden access would be counted again if its page were put back before the access is made again.
      ftruncateSync(object.fd, 4096);
      void mapping.bytes[4096];
    },
    shared: () => void mapping.share(),
    worker: () => {
      const { Worker } = require('node:worker_threads');
      const code = `const { Mapping } = require(${JSON.stringify(require.resolve('revocable-mmap'))});
        globalThis.mapping = Mapping.attach(require('node:worker_threads').workerData); mapping.on('revoked', () => undefined); mapping.read32(0);`;
      new Worker(code, { eval: true, workerData: mapping.share() });
    },
    waited: () => void mapping.wait(0, 1, { timeout: 30 }).then(console.log),
    aborted: () => {
      const controller = new AbortController();
      void mapping.wait(0, 1, { signal: controller.signal }).catch((error) => console.log(error.name));
      setTimeout(() => controller.abort(), 10);
    },
  };
  steps[what]();
}
