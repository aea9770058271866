import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Device, RegisterFile, type RegisterModel } from '../../src/device/index.js';
import { runChild } from '../support/child.js';
import { temporaryDirectory } from '../support/temporary.js';

interface Addon {
  make(): RegisterModel;
  makeUntagged(): RegisterModel;
  hammer(address: bigint, times: number): number;
}

let addon: Addon;
let library: string;

beforeAll(() => {
  const root = join(__dirname, '..', '..');
  library = join(temporaryDirectory(), 'register-model.node');
  const source = join(root, 'test', 'children', 'register-model.c');
  execFileSync('cc', ['-shared', '-fPIC', '-O2', '-pthread', '-I', join(root, 'include'), '-o', library, source]);

  addon = require(library) as Addon;
});

function deviceOf(model: RegisterModel | RegisterFile): Device {
  return new Device({ name: 'thermometer', regions: [{ size: 4096, kind: 'registers', model }] });
}

test("an addon's model answers raw and checked accesses alike", async () => {
  const device = deviceOf(addon.make());
  const mapping = device.open().map();
  const words = new BigUint64Array(mapping.buffer, 0, 8);
  const first = Atomics.load(words, 0);
  expect(mapping.read64(0)).toBe(first + 1n);
  expect(Atomics.load(words, 0)).toBe(first + 2n);
  Atomics.store(words, 1, 21n);
  expect(mapping.read64(8)).toBe(42n);
  mapping.write32(8, 4);
  expect(Atomics.load(words, 1)).toBe(8n);
  expect(mapping.read16(16)).toBe(0xffff);
  await device.unplug();
  expect(Atomics.load(words, 1)).toBe(0n);
  expect(() => mapping.read64(8)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
});

test('a model that ends with its thread is not called after it', async () => {
  const { status, signal, stdout, stderr } = await runChild('devices/model-owner.cjs', { args: [library, 20], limit: 220_000 });
  expect({ status, signal, stdout, stderr }).toEqual({
    status: 0,
    signal: null,
    stdout: '20 ended, 0 late calls\n',
    stderr: '',
  });
});

test('an External that is no model is an error, not a crash', () => {
  const message =
    'The "options.regions[0].model" argument must be an instance of RegisterFile, or a model that an addon has made ' +
    '(revocable-mmap/register-model.h)';
  for (const model of [addon.makeUntagged(), {}, 7, null] as RegisterModel[]) {
    expect(() => deviceOf(model)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', message: expect.stringContaining(message) as unknown }),
    );
  }
});

test('a thread of native code adds to a register, and every addition is one read and one write in the trace', async () => {
  const device = deviceOf(new RegisterFile([{ offset: 0x10 }]));
  const mapping = device.open().map();
  const trace = device.trace();
  const times = 10_000;
  expect(addon.hammer(mapping.address + 0x10n, times)).toBe((times * (times - 1)) / 2);
  trace.stop();
  let next = 0;
  let wrong = 0;
  const threads = new Set<number>();
  for await (const access of trace) {
    threads.add(access.thread);
    const expected = access.write ? Math.ceil(next / 2) : next / 2;
    if (access.write !== (next % 2 === 1) || access.value !== expected || access.width !== 4 || !access.raw) ++wrong;
    ++next;
  }
  expect([next, wrong, threads.size]).toEqual([2 * times, 0, 1]);
  expect(threads.has(process.pid)).toBe(false);
  await device.unplug();
});
