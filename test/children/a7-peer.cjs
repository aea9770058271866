// A process that was given memory as descriptor 3 and touches it after its owner has revoked it: a7-peer.cjs TOUCH
const { setTimeout: sleep } = require('node:timers/promises');
const { MemoryObject } = require('revocable-mmap');
const { barrier } = require('../support/barrier.cjs');
const { say, hear, outcome } = require('./conversation.cjs');

const TOUCHES = {
  checked: (mapping) => mapping.read32(4096),
  'checked write': (mapping) => mapping.write32(4096, 1),
  bulk: (mapping) => mapping.read(0, new Uint8Array(8192)),
  raw: (mapping) => mapping.bytes[4096],
  'raw write': (mapping) => void (mapping.bytes[4096] = 1),
  check: (mapping) => mapping.check(),
  prefetch: (mapping) => mapping.prefetch(),
};

async function main() {
  const memory = MemoryObject.fromFd(3, { writable: true, name: 'theirs' });
  const mapping = memory.map();
  const events = [];
  mapping.on('revoked', (error) => events.push(['revoked', error.code, error.cause?.code]));
  mapping.on('fault', (info) => events.push(['fault', info]));
  say(mapping.read32(4096));
  await hear();
  const first = outcome(() => TOUCHES[process.argv[2]](mapping));
  // Those that do not touch the memory leave the object as it is; the next access finds out.
  const touched = outcome(() => mapping.read32(0));
  const end = Date.now() + 20_000;
  while (memory.state !== 'revoked' || (events.length === 0 && Date.now() < end)) await sleep(2);
  await barrier();
  say({
    first,
    touched,
    events,
    states: [memory.state, mapping.state],
    map: outcome(() => memory.map().state),
    raw: mapping.bytes[4096],
  });
}

main();
