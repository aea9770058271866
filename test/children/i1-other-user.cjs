// As a user who may read FILE but not write it: i1-other-user.cjs FILE. Prints what opening it for either gives.
const fs = require('node:fs');
const { MemoryObject } = require('revocable-mmap');

const path = process.argv[2];
fs.writeFileSync(`${path}.secret`, 'x', { mode: 0o600 });
const first = MemoryObject.create({ size: 4096 });
first.map(); // what the library opens for itself, it opens now
first.close();
process.setgroups([]);
process.setgid(65534);
process.setuid(65534);

const count = () => fs.readdirSync('/proc/self/fd').length;
const attempt = (open) => {
  try {
    const memory = open();
    const answer = `mapped ${memory.map().read8(0)}`;
    memory.close();
    return answer;
  } catch ({ code, errno, syscall, path: at }) {
    return { code, errno, syscall, path: at };
  }
};

const before = count();
console.log(
  JSON.stringify({
    read: attempt(() => MemoryObject.openFile(path)),
    write: attempt(() => MemoryObject.openFile(path, { writable: true })),
    secret: attempt(() => MemoryObject.openFile(`${path}.secret`)),
    leaked: count() - before,
  }),
);
