// Another process that waits for the first word of the memory of descriptor 3: r11-process.cjs `wait`|`waitSync` [more mappings]
const { MemoryObject } = require('revocable-mmap');
const { say } = require('./conversation.cjs');

async function main() {
  const memory = MemoryObject.fromFd(3, { writable: true });
  const mapping = memory.map();
  say('waiting');
  try {
    say(process.argv[2] === 'wait' ? await mapping.wait(0, 0) : mapping.waitSync(0, 0));
  } catch (error) {
    say(error.code);
  }
  say(mapping.state === 'live' ? mapping.read32(0) : mapping.state);
}

main();
