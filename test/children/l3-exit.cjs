// process.exit(7) at a chosen moment: l3-exit.cjs WHEN
const { readdirSync, readFileSync } = require('node:fs');
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const { MemoryObject, Mapping } = require('revocable-mmap');

const exit = () => process.exit(7);
const object = MemoryObject.create({ size: 8192 });
const mapping = object.map();
const many = Array.from({ length: 500 }, () => object.map());

const moments = {
  'while everything is open': exit,
  'in a revoked listener': () => {
    mapping.on('revoked', exit);
    object.revokeSync();
  },
  'in an object listener': () => {
    object.on('revoked', exit);
    void object.revoke();
  },
  'in a fault listener': () => {
    mapping.protect({ offset: 0, length: 4096, access: 'none' });
    mapping.on('fault', exit);
    void mapping.bytes[0];
  },
  'in a close listener': () => {
    mapping.on('close', exit);
    mapping.close();
  },
  'with a revoke pending': () => {
    void object.revoke();
    exit();
  },
  'with a suspend pending': () => {
    void object.suspend();
    exit();
  },
  'with waits pending': () => {
    for (let i = 0; i < 10; i++) void mapping.wait(4 * i, 0);
    setTimeout(exit, 5);
  },
  'when a wait ends': () => {
    void mapping.wait(0, 0).catch(exit);
    void object.revoke();
  },
  'in an exit listener that revokes and touches': () => {
    process.on('exit', () => {
      object.revokeSync();
      if (many[3].bytes[0] !== 0) process.exit(8);
      process.exit(7);
    });
  },
  'in beforeExit': () => process.once('beforeExit', exit),
  'by an exception in a listener': () => {
    process.exitCode = 7;
    process.on('uncaughtException', exit);
    mapping.on('revoked', () => {
      throw new Error('of the listener');
    });
    object.revokeSync();
  },
  'while threads fault and revoke': () => storm(() => setTimeout(exit, 20)),
  'in a thread, which ends only itself': () => {
    const worker = new Worker(__filename, { workerData: { how: 'exit', handle: mapping.share() } });
    worker.on('exit', (code) => {
      mapping.write32(0, 1);
      object.revokeSync();
      process.exit(code === 7 && mapping.bytes[0] === 0 ? 7 : 9);
    });
  },
  'while a thread is in waitSync': () => {
    const worker = new Worker(__filename, { workerData: { how: 'wait', handle: mapping.share() } });
    worker.once('message', () => whenAsleep(exit));
  },
};

const FUTEX_WAITV = '449'; // the same number on every architecture

/** Calls it when a thread of this process sleeps in futex_waitv(2), or after a while, on a kernel that has none. */
function whenAsleep(then, tries = 2000) {
  const asleep = readdirSync('/proc/self/task').some(
    (task) => readFileSync(`/proc/self/task/${task}/syscall`, 'utf8').split(' ')[0] === FUTEX_WAITV,
  );
  if (asleep || tries === 0) then();
  else setTimeout(whenAsleep, 1, then, tries - 1);
}

function storm(then) {
  let left = 2;
  for (let i = 0; i < 2; i++) {
    const worker = new Worker(__filename, { workerData: { how: 'storm', handle: mapping.share() } });
    worker.once('message', () => --left === 0 && then());
  }
}

function inThread() {
  const { parentPort } = require('node:worker_threads');
  const attached = Mapping.attach(workerData.handle);
  if (workerData.how === 'exit') {
    attached.write32(0, 5);
    many[0].object.revokeSync();
    void many[0].bytes[0];
    process.exit(7);
  }
  if (workerData.how === 'wait') {
    parentPort.postMessage('ready');
    attached.waitSync(0, 0);
  }
  for (let i = 0; ; i++) {
    if (i === 10) parentPort.postMessage('ready');
    const own = MemoryObject.create({ size: 4096 });
    const one = own.map();
    own.revokeSync();
    void one.bytes[0];
    own.close();
  }
}

if (isMainThread) moments[process.argv[2]]();
else inThread();
