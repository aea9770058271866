// seccomp.cjs ERRNO: forbids userfaultfd(2) to this process from now on, as a container's filter does, and prints what becomes of
// devices.
const koffi = require('koffi');
const libc = koffi.load('libc.so.6');
const prctl = libc.func('int prctl(int, unsigned long, void *, unsigned long, unsigned long)');
const NR = { x64: 323, arm64: 282 }[process.arch];
const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const SECCOMP_RET_ERRNO = 0x00050000;
const SECCOMP_RET_ALLOW = 0x7fff0000;

// Classic BPF over struct seccomp_data: load nr; equal to userfaultfd? errno : allow.
const program = Buffer.alloc(4 * 8);
[
  [0x20, 0, 0, 0],
  [0x15, 0, 1, NR],
  [0x06, 0, 0, SECCOMP_RET_ERRNO | Number(process.argv[2])],
  [0x06, 0, 0, SECCOMP_RET_ALLOW],
].forEach(([code, jt, jf, k], i) => {
  program.writeUInt16LE(code, 8 * i);
  program.writeUInt8(jt, 8 * i + 2);
  program.writeUInt8(jf, 8 * i + 3);
  program.writeUInt32LE(k, 8 * i + 4);
});
const fprog = Buffer.alloc(16);
fprog.writeUInt16LE(4, 0);
fprog.writeBigUInt64LE(koffi.address(program), 8);
if (prctl(PR_SET_NO_NEW_PRIVS, 1, null, 0, 0) !== 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog, 0, 0) !== 0) {
  throw new Error('the filter was not accepted');
}

const { Device } = require('revocable-mmap/device');

function refusal(regions, ops) {
  try {
    new Device({ name: 'lazy', regions, ops });
    return null;
  } catch ({ code, syscall, message }) {
    return { code, syscall, message };
  }
}

async function main() {
  const refused = [
    refusal([{ size: 4096 }], { fault: () => undefined }),
    refusal([{ size: 4096 }], { pageMkwrite: () => undefined }),
    refusal([{ size: 4096, pages: 'zeros' }], {}),
  ];
  const device = new Device({
    name: 'eager',
    regions: [{ size: 4096 }, { size: 4096, kind: 'registers' }],
    ops: { readRegister: (offset) => offset + 1, read: (file, target) => target.fill(9).length },
  });
  const file = device.open();
  const memory = file.map();
  const registers = file.map({ region: 1 });
  memory.write32(0, 42);
  const target = new Uint8Array(2);
  const works = [memory.read32(0), registers.read32(4), await file.read(target), target[0]];
  await device.unplug();
  let after;
  try {
    memory.read32(0);
  } catch (error) {
    after = error.code;
  }
  console.log(JSON.stringify({ refused, works, after }));
}

main();
