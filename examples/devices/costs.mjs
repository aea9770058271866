/**
 * What an access to a register costs, by each way to it: `node examples/devices/costs.mjs [ROUNDS]`. Microseconds, the median of rounds that
 * take turns, and how many times that of a checked read whose model is JavaScript in the same thread.
 */
import { MemoryObject } from 'revocable-mmap';
import { Device, RegisterFile } from 'revocable-mmap/device';
import { memoryOf, programIn } from './programs.mjs';

const ROUNDS = Number(process.argv[2] ?? 15);
/** A register of the edu card's, which stays as it is: it computes for ever. */
const AT = 0x20;
const region = (model) => ({ size: 4096, kind: 'registers', model });

const here = new Device({ name: 'here', regions: [region()], ops: { readRegister: () => 1 } });
const elsewhere = await Device.spawn(new URL('./edu.mjs', import.meta.url));
const native = new Device({ name: 'native', regions: [region(new RegisterFile([{ offset: AT, value: 1 }]))] });
const BESIDE = 0x80;
const callbacks = new RegisterFile([{ offset: AT, onRead: () => 1 }, { offset: BESIDE }]);
const calling = new Device({ name: 'calling', regions: [region(callbacks)] });
const memory = MemoryObject.create({ size: 4096 }).map();

const checked =
  (mapping, at = AT) =>
  (times) => {
    for (let i = 0; i < times; i++) mapping.read32(at);
  };
const loads = (mapping, at = AT) => {
  const words = new Uint32Array(mapping.buffer, 0, 1024);
  return (times) => {
    for (let i = 0; i < times; i++) Atomics.load(words, at / 4);
  };
};
const stores = (mapping) => {
  const words = new Uint32Array(mapping.buffer, 0, 1024);
  return (times) => {
    for (let i = 0; i < times; i++) words[AT / 4] = 1;
  };
};
const floats = (mapping) => {
  const words = new Float64Array(mapping.buffer, 0, 512);
  let last;
  return (times) => {
    for (let i = 0; i < times; i++) last = words[AT / 8];
    return last;
  };
};
const program = (device) => {
  const memory = memoryOf(17 * 65_536);
  device.open().map({ memory, memoryOffset: 0x10000 }); // lasts as long as the program
  const { poll } = programIn(memory, 'edu-driver');
  return (times) => poll(times);
};

const registers = native.open().map();
const WAYS = [
  ['memory: raw load', 1_000_000, loads(memory)],
  ['memory: raw store', 1_000_000, stores(memory)],
  ['memory: checked load', 1_000_000, checked(memory)],
  ['model in JavaScript, this thread: checked', 100_000, checked(here.open().map())],
  ['RegisterFile: checked', 100_000, checked(registers)],
  ['RegisterFile: raw load', 20_000, loads(registers)],
  ['RegisterFile: raw store', 20_000, stores(registers)],
  ['RegisterFile: WebAssembly load', 20_000, program(native)],
  ['RegisterFile: raw load of a float', 20_000, floats(registers)],
  ['RegisterFile, onRead, this thread: checked', 100_000, checked(calling.open().map())],
  ['RegisterFile, beside onRead: checked', 100_000, checked(calling.open().map(), BESIDE)],
  ['RegisterFile, beside onRead: raw load', 20_000, loads(calling.open().map(), BESIDE)],
  ['model in JavaScript, another thread: checked', 500, checked(elsewhere.open().map())],
  ['model in JavaScript, another thread: raw load', 500, loads(elsewhere.open().map())],
];

const samples = new Map(WAYS.map(([name]) => [name, []]));
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, times, access] of WAYS) {
    const begin = process.hrtime.bigint();
    access(times);
    samples.get(name).push(Number(process.hrtime.bigint() - begin) / 1000 / times);
  }
}
const median = (name) => samples.get(name).sort((a, b) => a - b)[ROUNDS >> 1];
const unit = median('model in JavaScript, this thread: checked');
for (const [name] of WAYS)
  console.log(`${name.padEnd(48)} ${median(name).toFixed(3).padStart(8)} us ${(median(name) / unit).toFixed(2).padStart(8)}`);

await Promise.all([here.unplug(), elsewhere.unplug(), native.unplug(), calling.unplug()]);
