// Another process that goes on using the memory of descriptor 3.
const { MemoryObject } = require('revocable-mmap');
const { say, hear } = require('./conversation.cjs');

async function main() {
  const mapping = MemoryObject.fromFd(3, { writable: true }).map();
  say(mapping.read32(0));
  await hear();
  mapping.write32(0, 0x1234);
  say('written');
}

main();
