// A device for Device.spawn whose registers keep what is written, byte by byte, and remember who asked for what. Some misbehave.
const { deviceError } = require('revocable-mmap');

const bytes = new Uint8Array(4096);
const view = new DataView(bytes.buffer);
let log = [];
let device;
let own;

const get = { 1: 'getUint8', 2: 'getUint16', 4: 'getUint32', 8: 'getBigUint64' };
const set = { 1: 'setUint8', 2: 'setUint16', 4: 'setUint32', 8: 'setBigUint64' };

/** Says that it has begun, and goes on when it is let. */
function hang(words) {
  Atomics.store(words, 0, 1);
  while (Atomics.load(words, 1) === 0);
}

function misbehave(offset, data) {
  if (offset === 0xe00) throw new Error('broken');
  if (offset === 0xe08) throw deviceError('EINVAL', 'register');
  if (offset === 0xe10) {
    Atomics.wait(data.released, 0, 0, 60_000);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100); // meanwhile the next access is under way
  }
  if (offset === 0xe18) hang(data.words);
  if (offset === 0xe20) own.view.getUint32(0, true);
}

module.exports = (data) => ({
  name: data.name ?? 'scripted',
  opTimeout: data.opTimeout ?? 20_000,
  regions: [{ name: 'bar', size: 4096, kind: 'registers' }],
  ops: {
    attach(made) {
      device = made;
    },
    readRegister(offset, width) {
      misbehave(offset, data);
      const value = view[get[width]](offset, true);
      if (!data.quiet) log.push({ write: false, offset, width, value });
      return value;
    },
    writeRegister(offset, width, value) {
      misbehave(offset, data);
      view[set[width]](offset, value, true);
      if (!data.quiet) log.push({ write: true, offset, width, value });
    },
    ioctl(file, command) {
      if (command === 1) return void (own ??= device.open().map({ fill: 'ones' }));
      if (command === 2) {
        try {
          own.check();
          return 'nothing';
        } catch (error) {
          return error.code;
        }
      }
      const taken = log;
      log = [];
      return { log: taken, counts: { reads: device.opCounts.readRegister, writes: device.opCounts.writeRegister } };
    },
  },
});
