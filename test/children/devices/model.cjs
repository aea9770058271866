// A device for Device.spawn: its memory is supplied page by page, its registers count.
let counter = 0;
module.exports = (data = {}) => ({
  name: data.name ?? 'spawned',
  opTimeout: data.opTimeout ?? 5000,
  regions: [
    { name: 'ram', size: 64 * 4096 },
    { name: 'regs', size: 4096, kind: 'registers' },
  ],
  ops: {
    open(file) {
      if (data.refuse !== undefined) throw Object.assign(new Error(data.refuse), { errno: -16, code: 'EBUSY', syscall: 'open' });
      file.data = { reads: 0 };
    },
    mmap() {
      return data.readOnly ? { access: 'r' } : undefined;
    },
    fault(page) {
      if (data.never) return new Promise(() => undefined);
      if (data.throws) throw new Error('broken');
      return new Uint8Array(4096).fill(page.index + 1);
    },
    read(file, target) {
      if (data.never) return new Promise(() => undefined);
      target.fill(7);
      return Math.min(3, target.length);
    },
    write: (file, source) => source.length,
    ioctl: (file, command, argument) => ({ command, argument }),
    poll: () => (counter > 0 ? 1 : 0),
    readRegister(offset, width) {
      if (offset === 8) return counter++;
      if (offset === 16) for (;;);
      return width === 8 ? 0x1122334455667788n : 0xdeadbeef;
    },
    writeRegister(offset, width, value) {
      counter = Number(value);
      if (offset === 24) throw new Error('no such register');
    },
  },
});
