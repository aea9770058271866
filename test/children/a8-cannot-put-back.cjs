// A forbidden raw write is diverted to a private page, and RLIMIT_AS leaves no mapping to put the object's page back with. Prints the
// outcomes of accesses while it lasts, and afterwards.
const { MemoryObject } = require('revocable-mmap');
const { say } = require('./conversation.cjs');
const { lowerSoftLimit, RLIMIT } = require('./libc.cjs');

const memory = MemoryObject.create({ size: 4 * 4096, name: 'diverted' });
const witness = memory.map();
witness.bytes.fill(7);
const mapping = memory.map({ access: 'r' });
const target = new Uint8Array(8192);
const limit = lowerSoftLimit(RLIMIT.as, 64 * 1024 * 1024);

function failure(call) {
  try {
    return call();
  } catch ({ code, errno, syscall, object, offset, bytesTransferred }) {
    return { code, errno, syscall, object, offset, bytesTransferred };
  }
}

const accesses = {
  read32: () => mapping.read32(4096),
  read64: () => mapping.read64(4096),
  read: () => mapping.read(0, target),
  check: () => mapping.check(),
  elsewhere: () => mapping.read32(8192),
};

/** The page is put back by another thread a few milliseconds later: the limit has to be there before. */
function attempt() {
  globalThis.gc(); // or V8 collects under the limit, and aborts
  mapping.bytes[5000] = 9;
  limit.lower();
  const held = {};
  for (const name of Object.keys(accesses)) held[name] = failure(accesses[name]);
  limit.restore();
  return held;
}

for (const name of Object.keys(accesses)) failure(accesses[name]); // compiled, and with all that they need
const end = Date.now() + 30_000;
let held = attempt();
while (held.read32.code === undefined && Date.now() < end) held = attempt();
const lifted = {};
for (const name of Object.keys(accesses)) lifted[name] = failure(accesses[name]);
say({ held, lifted, object: witness.read8(5000) });
