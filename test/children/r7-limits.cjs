// Revocation when the kernel refuses memory: r7-limits.cjs LIMIT OWNED TOUCH [FILL]
//
// LIMIT: `as` (RLIMIT_AS below what is in use), `data` (RLIMIT_DATA the same), `maps` (as many mappings as vm.max_map_count
// allows), `nofile` (no descriptor left), `mseal` (the range is sealed), `none`. OWNED: whether truncation can help. TOUCH:
// `held` makes the first raw access while the limit still holds, `many` the same of more mappings, `lifted` after it was lifted.
const { readFileSync } = require('node:fs');
const { MemoryObject } = require('revocable-mmap');
const { outcome, say } = require('./conversation.cjs');
const { mmap, munmap, mseal, lowerSoftLimit, PROT, MAP, RLIMIT } = require('./libc.cjs');
const { openSync, closeSync } = require('node:fs');

const [limit, owned, touch, fill = 'zeros'] = process.argv.slice(2);
const MAPPINGS = touch === 'many' ? 100 : 20; // more than a small reserve has pages
const CANARY = 0x600dcafe;

const device = MemoryObject.create({ size: 4 * 4096, name: 'limited' });
const witness = device.map();
witness.write32(0, CANARY);
const object = owned === 'owned' ? device : MemoryObject.fromFd(device.fd, { writable: true, name: 'limited' });
const mappings = Array.from({ length: MAPPINGS }, (_, i) =>
  object.map({ fill, private: i % 5 === 4, access: i % 5 === 3 ? 'r' : 'rw' }),
);
const writable = mappings.filter(({ access }) => access === 'rw');
warmUp();

const limits = {
  as: () => lowerSoftLimit(RLIMIT.as, 64 * 1024 * 1024),
  data: () => lowerSoftLimit(RLIMIT.data, 1024 * 1024),
  maps: exhaustMaps,
  nofile: exhaustDescriptors,
  mseal: sealMappings,
  none: () => ({ lower() {}, restore() {} }),
};

const imposed = limits[limit]();
globalThis.gc(); // or V8 collects under the limit, and aborts
imposed.lower();
const proof = limit === 'as' || limit === 'maps' ? mmap(0, 4096, PROT.read, MAP.private | MAP.anonymous, -1, 0) : undefined;
const report = outcome(() => object.revokeSync());
const rawHeld = touch === 'held' || touch === 'many' ? mappings.map(raw) : undefined;
const checkedHeld = mappings.map(checked);
imposed.restore();
say({
  proof: proof === undefined ? undefined : Number(proof),
  report,
  rawHeld,
  checkedHeld,
  checked: mappings.map(checked),
  raw: touch === 'none' ? undefined : mappings.map(raw),
  written: touch === 'none' ? undefined : writable.map((mapping) => ((mapping.bytes[0] = 7), mapping.bytes[0])),
  states: mappings.map(({ state }) => state),
  memory: owned === 'owned' ? undefined : witness.read32(0),
  mapsLeft: readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('memfd:limited') && !/^\S+ ---/.test(line)).length,
});

// Under the limit V8 gets no memory either: everything is compiled, every view is made and errors have been thrown before.
function warmUp() {
  const gone = MemoryObject.create({ size: 4096 });
  const one = gone.map();
  gone.revokeSync();
  for (let round = 0; round < 50; round++) {
    mappings.map(raw);
    mappings.map(checked);
    [one, one].map(raw);
    [one, one].map(checked);
  }
}

function raw(mapping) {
  return mapping.bytes[0];
}

function checked(mapping) {
  return outcome(() => mapping.read32(0));
}

// All but the last few are taken before V8 collects, and the last few after: the numbers of 65,000 calls fill V8's young pages, and
// under the limit it can map no other. A collection with no page to copy to aborts the process.
function exhaustMaps() {
  const LAST = 1024;
  const most = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'));
  const taken = new Float64Array(most + 16);
  let count = 0;
  const release = (left) => {
    while (count > left) munmap(taken[--count], 4096);
  };
  // Neighbours differ in protection, so that the kernel cannot merge them.
  const lower = () => {
    for (;;) {
      const at = mmap(0, 4096, count % 2 === 0 ? PROT.read : PROT.none, MAP.private | MAP.anonymous, -1, 0);
      if (at === -1) return;
      taken[count++] = at;
    }
  };
  lower();
  release(count - LAST);
  return { lower, restore: () => release(0) };
}

function exhaustDescriptors() {
  const limitOfFew = lowerSoftLimit(RLIMIT.nofile, 256);
  const taken = [];
  return {
    lower() {
      limitOfFew.lower();
      try {
        for (;;) taken.push(openSync('/dev/null', 'r'));
      } catch (error) {
        if (error.code !== 'EMFILE') throw error;
      }
    },
    restore() {
      for (const fd of taken) closeSync(fd);
      limitOfFew.restore();
    },
  };
}

function sealMappings() {
  return {
    lower() {
      for (const mapping of mappings) {
        if (mseal(Number(mapping.address), 4 * 4096) !== 0) throw new Error('mseal');
      }
    },
    restore() {},
  };
}

// V8 aborts when it cannot unmap a buffer, and what is sealed cannot be unmapped: leave without freeing.
if (limit === 'mseal') process.exit(0);
