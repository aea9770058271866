// The device of the last part of program.cjs.
let device;
module.exports = () => ({
  name: 'spawned',
  regions: [
    { name: 'ram', size: 4 * 4096 },
    { name: 'regs', size: 4096, kind: 'registers' },
  ],
  ops: {
    attach(made) {
      device = made;
    },
    fault: (page) => new Uint8Array(4096).fill(page.index + 1),
    readRegister: (offset) => offset + 1,
    writeRegister: () => device.raise(0),
  },
});
