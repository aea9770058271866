// Copies of which the other buffer is a view of the same mapping, or of another, and whose pages from EDGE on cannot be had:
// a4-one-mapping.cjs BAD. Prints, by whose view it is, kind of call and distance from the edge, what came out.
const { openSync, ftruncateSync, writeFileSync } = require('node:fs');
const { MemoryObject, Mapping } = require('revocable-mmap');
const { say } = require('./conversation.cjs');

const [bad] = process.argv.slice(2);
const PAGE = 4096;
const SIZE = 4 * PAGE;
const EDGE = 2 * PAGE;
const BYTES = 300;
const path = `${process.env.SCRATCH}/file`;

function setUp(whose) {
  writeFileSync(path, Buffer.alloc(SIZE, 1));
  const object = bad === 'truncated' ? MemoryObject.openFile(path, { writable: true }) : MemoryObject.create({ size: SIZE });
  const failing = object.map();
  failing.bytes.fill(1);
  if (bad === 'truncated') ftruncateSync(openSync(path, 'r+'), EDGE);
  else failing.protect({ offset: EDGE, length: SIZE - EDGE, access: bad });
  if (whose === 'its own') return { object, failing, mapping: failing };
  if (whose === 'its own, attached') return { object, failing, mapping: Mapping.attach(failing.share()) };
  const mapping = MemoryObject.create({ size: SIZE }).map();
  mapping.bytes.fill(2);
  return { object, failing, mapping };
}

// At 1000 of the mapping; the other buffer is about the edge.
const CALLS = {
  read: (mapping, other) => mapping.read(1000, other),
  write: (mapping, other) => mapping.write(1000, other),
  readAsync: (mapping, other) => mapping.readAsync(1000, other),
  writeAsync: (mapping, other) => mapping.writeAsync(1000, other),
};

async function attempt(whose, name, distance) {
  const { object, failing, mapping } = setUp(whose);
  const other = failing.bytes.subarray(EDGE - distance, EDGE - distance + BYTES);
  let result;
  try {
    result = await CALLS[name](mapping, other);
  } catch ({ code, bytesTransferred }) {
    result = { code, bytesTransferred };
  }
  const { state } = mapping;
  mapping.object.close();
  object.close();
  return { result, state };
}

(async () => {
  const outcomes = {};
  for (const whose of ['its own', 'its own, attached', 'another’s']) {
    outcomes[whose] = {};
    for (const name of Object.keys(CALLS)) {
      outcomes[whose][name] = [];
      for (const distance of [0, 1, 7, 8, 63, 64, 65, 200]) {
        outcomes[whose][name].push({ distance, ...(await attempt(whose, name, distance)) });
      }
    }
  }
  say(outcomes);
})();
