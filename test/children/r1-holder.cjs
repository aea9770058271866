// A process that was given the memory as descriptor 3: r1-holder.cjs FIRST TOUCH, which is `checked`, `raw` or `write`.
const { readSync } = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const { MemoryObject } = require('revocable-mmap');
const { say, hear, outcome } = require('./conversation.cjs');

const TOUCHES = {
  checked: (mapping) => mapping.read32(0),
  raw: (mapping) => mapping.view.getUint32(0, true),
  write: (mapping) => void mapping.view.setUint32(0, 0xbad, true),
};

async function main() {
  const memory = MemoryObject.fromFd(3, { writable: true, name: 'held' });
  const mapping = memory.map({ fill: 'ones' });
  const untouched = memory.map({ fill: 'ones' });
  let events = 0;
  mapping.on('revoked', () => events++);
  say({ word: mapping.read32(0), other: untouched.read32(4096) });
  await hear();
  const first = outcome(() => TOUCHES[process.argv[2]](mapping));
  const end = Date.now() + 20_000;
  while (events === 0 && Date.now() < end) await sleep(2);
  const bytesOfFile = readSync(3, Buffer.alloc(8), 0, 8, 0);
  say({
    first,
    events,
    state: mapping.state,
    raw: mapping.view.getUint32(0, true),
    checked: outcome(() => mapping.read32(0)),
    untouchedRaw: untouched.view.getUint32(4096, true),
    untouchedChecked: outcome(() => untouched.read32(4096)),
    map: outcome(() => memory.map().state),
    bytesOfFile,
  });
}

main();
