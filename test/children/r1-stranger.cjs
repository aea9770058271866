// A process without the library that has mapped descriptor 3. Each message asks it to look, and it answers with what it sees.
const { say, hear } = require('./conversation.cjs');
const { koffi, mmap, PROT, MAP } = require('./libc.cjs');

async function main() {
  const at = mmap(0, 4096, PROT.read, MAP.shared, 3, 0);
  const look = () => koffi.decode(BigInt(at), 'uint32_t');
  say({ word: look() });
  await hear();
  say({ word: look() });
}

main();
