// A device for Device.spawn whose registers always hold the same.
const VALUE = 0x3ff8_5a5a;
module.exports = {
  name: 'leaving',
  regions: [{ size: 4096, kind: 'registers' }],
  ops: {
    readRegister: (offset, width) => (width === 8 ? BigInt(VALUE) * 0x1_0000_0001n : VALUE),
    writeRegister() {},
  },
};
