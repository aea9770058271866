// A device for Device.spawn: its memory is supplied page by page, its registers count.
let counter = 0;
let device;
let words; // of `data`: ops that hang answer when the first is set

/** Answers when the user of the device says so. */
const held = () =>
  new Promise((resolve) => {
    const look = setInterval(() => {
      if (Atomics.load(words, 0) === 0) return;
      clearInterval(look);
      resolve();
    }, 2);
  });
module.exports = (data = {}) => ({
  name: data.name ?? 'spawned',
  opTimeout: data.opTimeout ?? 20_000,
  regions: [
    { name: 'ram', size: (data.pages ?? 64) * 4096 },
    { name: 'regs', size: 4096, kind: 'registers' },
  ],
  ops: {
    attach(made) {
      device = made;
      words = data.words;
    },
    open(file) {
      if (data.refuse !== undefined) throw Object.assign(new Error(data.refuse), { errno: -16, code: 'EBUSY', syscall: 'open' });
      file.data = { reads: 0 };
    },
    mmap() {
      return data.readOnly ? { access: 'r' } : undefined;
    },
    fault(page) {
      if (words !== undefined) return held();
      if (data.throws) throw new Error('broken');
      return new Uint8Array(4096).fill(page.index + 1);
    },
    read(file, target) {
      if (words !== undefined) return held().then(() => 0);
      target.fill(7);
      return Math.min(3, target.length);
    },
    write: (file, source) => source.length,
    ioctl(file, command, argument) {
      if (command === 0xe0) return device.unplug();
      if (command === 0xe1) process.exit(3);
      if (command === 0xe2)
        setImmediate(() => {
          throw new Error('no handler catches this');
        });
      if (command === 0xe3) void Promise.reject(new Error('no handler handles this'));
      if (command === 0xe4) return held();
      return { command, argument };
    },
    poll: () => (counter > 0 ? 1 : 0),
    readRegister(offset, width) {
      if (offset === 8) return counter++;
      if (offset === 16) for (;;);
      if (offset === 24) {
        void device.unplug();
        for (const end = Date.now() + 300; Date.now() < end;); // what follows of the removal is not done yet
      }
      return width === 8 ? 0x1122334455667788n : 0xdeadbeef;
    },
    writeRegister(offset, width, value) {
      counter = Number(value);
      if (offset === 24) throw new Error('no such register');
    },
  },
});
