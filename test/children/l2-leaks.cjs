// What is left of mappings that came and went: node --expose-gc l2-leaks.cjs HOW COUNT
//
// HOW: `close`, `revoke` (then close the object), `collect` (nothing is closed), `collect-revoked`, `collect-views` (only a view
// of each is kept for a while), `exception` (map() that fails). Prints lines of /proc/self/maps, descriptors, resident memory and live
// JavaScript objects, before and after, once the same has been done for warming up.
const { readFileSync, readdirSync } = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const { queryObjects } = require('node:v8');
const { MemoryObject, Mapping, stats } = require('revocable-mmap');

const [how, count] = [process.argv[2], Number(process.argv[3])];
const SIZE = 16384;
const kept = [];

const once = {
  close(i) {
    const object = MemoryObject.create({ size: SIZE });
    const mapping = object.map({ shared: i % 10 !== 0, fill: i % 2 === 0 ? 'zeros' : 'ones' });
    mapping.write32(8192, i);
    if (i % 3 === 0) mapping.protect({ offset: 4096, length: 4096, access: 'r' });
    if (i % 7 === 0) mapping.remapPages({ offset: 0, length: 4096, objectOffset: 4096 });
    mapping.close();
    object.close();
  },
  revoke(i) {
    const object = MemoryObject.create({ size: SIZE });
    const mapping = object.map({ shared: i % 10 !== 0, fill: i % 2 === 0 ? 'zeros' : 'ones' });
    mapping.write32(8192, i);
    object.revokeSync();
    if (i % 2 === 0) mapping.bytes[0] = 1;
    object.close();
  },
  collect(i) {
    MemoryObject.create({ size: SIZE })
      .map({ shared: i % 10 !== 0 })
      .write32(0, i);
  },
  'collect-revoked'(i) {
    const object = MemoryObject.create({ size: SIZE });
    const mapping = object.map({ shared: i % 10 !== 0, fill: i % 2 === 0 ? 'zeros' : 'ones' });
    object.revokeSync();
    mapping.bytes[0] = 1;
  },
  'collect-views'() {
    kept.push(MemoryObject.create({ size: SIZE }).map().bytes);
    if (kept.length > 100) kept.shift();
  },
  exception() {
    const object = MemoryObject.create({ size: SIZE });
    object.revokeSync();
    for (const options of [{}, { shared: false }]) {
      try {
        object.map({ offset: 0, length: 4096, ...options });
      } catch (error) {
        if (error.code !== 'ENODEV') throw error;
      }
    }
    object.close();
  },
};

// Events still to be emitted hold their mappings.
async function turns(n) {
  for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function cycles(n) {
  for (let i = 0; i < n; i++) {
    once[how](i);
    if (i % 200 === 199) {
      await turns(20);
      if (how.startsWith('collect')) globalThis.gc();
    }
  }
  kept.length = 0;
  await settle();
}

// Collections until everything that can go has gone.
async function settle() {
  const end = Date.now() + 20_000;
  for (let calm = 0; calm < 10 && Date.now() < end;) {
    globalThis.gc();
    await turns(20);
    await sleep(5);
    const { live, suspended, revoked } = stats().mappings;
    calm = live + suspended + revoked === 0 ? calm + 1 : 0;
  }
}

function measure() {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n').length;
  const ours = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => /memfd:revo/.test(line)).length;
  const rss = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
  const objects = Object.fromEntries(
    [MemoryObject, Mapping, WeakRef, SharedArrayBuffer, AbortController].map((kind) => [kind.name, queryObjects(kind)]),
  );
  return { maps, ours, fds: readdirSync('/proc/self/fd').length, rssKiB: rss, objects };
}

async function main() {
  await cycles(count); // as many as will be measured: V8 keeps what it once needed at its peak
  measure(); // what looking itself needs is there from now on
  const before = measure();
  await cycles(count);
  const after = measure();
  const { live, suspended, revoked, closed } = stats().mappings;
  console.log(JSON.stringify({ before, after, open: live + suspended + revoked, closed }));
}

main();
