// A device for Device.spawn, of one region of registers of which two call JavaScript.
const { RegisterFile } = require('revocable-mmap');

module.exports = () => {
  let reads = 0;
  const model = new RegisterFile([
    { offset: 0, kind: 'wo', onWrite: (value) => model.set(4, value * 2) },
    { offset: 4, kind: 'ro' },
    { offset: 8, kind: 'ro', onRead: () => ++reads },
  ]);
  return { name: 'card', regions: [{ size: 4096, kind: 'registers', model }] };
};
