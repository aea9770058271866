// A program that has nothing more to do, and leaves devices as they are: idle.cjs WHAT.
const { join } = require('node:path');
const { Bus, Device } = require('revocable-mmap/device');

const what = process.argv[2];
const opTimeout = 600_000; // whatever waits for an op does so for longer than this program may run
const make = () => new Device({ name: 'idle', opTimeout, regions: [{ size: 8192 }], ops: { fault: () => undefined } });
const spawn = () => Device.spawn(join(__dirname, 'model.cjs'), { data: { opTimeout } });

const steps = {
  live: () => make().open(),
  mapped: () => make().open().map().readAsync(0, new Uint8Array(1)),
  spawned: () => spawn(),
  'spawned and mapped': async () => (await spawn()).open().map().read8(0),
  removed: () => make().unplug(),
  'spawned and ended': async () => {
    const device = await spawn();
    device
      .open()
      .ioctl(0xe1)
      .catch(() => undefined); // process.exit() in its worker
  },
  traced: () => make().trace(),
  'traced and read': () => void make().trace()[Symbol.asyncIterator]().next(),
  'spawned and traced': async () => (await spawn()).trace(),
  bus: () => {
    const bus = new Bus();
    bus.add(make());
    void bus.events().next();
  },
};

Promise.resolve(steps[what]()).then(() => console.log(what));
