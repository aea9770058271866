import { join } from 'node:path';
import { Device, RegisterFile } from 'revocable-mmap';
import { runChild } from '../support/child.js';
import { describeTrapped } from '../support/conditions.js';
import { CrewMember } from '../support/crew.js';
import { catches } from '../support/signals.js';
import { thrownBy } from '../support/thrown.js';
import { until } from '../support/until.js';
import { INSTRUCTIONS_PROGRAM } from '../support/wasm-instructions.js';
import { rounds } from '../support/rounds.js';

const VALUE = 0x3ff85a5a;
const MODEL = join(__dirname, '..', 'children', 'devices', 'register-model.cjs');

interface Printed {
  seen: Record<string, number>;
  steps: number[];
  before: string;
  after: string;
}

describeTrapped('registers that are taken away while threads access them raw', () => {
  const cases = ['unplug', 'revoke', 'revokeSync', 'suspend', 'close'].flatMap((how) =>
    ['native', 'here', 'spawned'].flatMap((model) => ['zeros', 'ones'].map((fill) => ({ how, model, fill }))),
  );
  test.each(cases)('$how, model $model: each access gives what they hold, or $fill', async ({ how, model, fill }) => {
    const seed = (Date.now() ^ (process.pid << 12)) >>> 0;
    const times = rounds(model === 'native' ? 30 : 10);
    const program = Buffer.from(INSTRUCTIONS_PROGRAM).toString('base64');
    const result = await runChild('devices/register-removal.cjs', {
      args: [model, how, fill, times, seed, program],
      limit: 220_000,
    });
    const { status, signal, stdout, stderr } = result;
    if (status !== 0 || stderr !== '') throw new Error(`seed ${seed}, status ${status}, signal ${signal}\n${stdout}\n${stderr}`);
    const { steps, before, after, ...counts } = JSON.parse(stdout) as Printed;
    expect(steps.length).toBe(2 * times);
    expect(Math.min(...steps)).toBeGreaterThan(0);
    expect([before, after].map((text) => catches('SIGTRAP', text))).toEqual([false, true]); // so they have been stepped
    const seen = Object.keys(counts.seen);
    expect(seen).toContain(VALUE.toString(16));
    const allowed = [VALUE.toString(16), fill === 'ones' ? 'ffffffff' : '0'];
    if (how === 'close') allowed.push('0'); // what is closed is zeros
    expect(seen.filter((value) => !allowed.includes(value))).toEqual([]);
  });

  test('a thread that waits for an op that hangs goes on when another thread unplugs the device', async () => {
    const member = await CrewMember.start();
    const words = new Int32Array(new SharedArrayBuffer(8)); // whether the op has begun, and whether it is let go
    const device = await Device.spawn(MODEL, { data: { opTimeout: 60_000, words } });
    const mapping = device.open().map({ fill: 'ones' });
    const answer = member.run(mapping, (mapping) => {
      return Atomics.load(new Uint32Array(mapping.buffer as ArrayBuffer, 0, 1024), 0xe18 / 4);
    });
    await until('the op hangs', () => Atomics.load(words, 0) === 1);
    let removed = false;
    const removal = device.unplug().finally(() => (removed = true));
    expect(await answer).toBe(0xffffffff);
    expect(removed).toBe(false); // the hanging worker is given its time
    Atomics.store(words, 1, 1);
    expect(await removal).toMatchObject({ removedByThisCall: true, mappings: 1 });
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
    await member.end();
  });

  test('what is not there any more is in no trace, reads the fill, and takes writes as memory', async () => {
    const model = new RegisterFile([
      { offset: 0, kind: 'counter' },
      { offset: 8, width: 8 },
    ]);
    const device = new Device({ name: 'gone', regions: [{ name: 'bar', size: 4096, kind: 'registers', model }] });
    const mapping = device.open().map({ fill: 'ones' });
    const trace = device.trace();
    const registers = new Uint32Array(mapping.buffer as ArrayBuffer, 0, 1024);
    expect(Atomics.load(registers, 0)).toBe(0);
    await device.unplug();
    expect(Atomics.load(registers, 0)).toBe(0xffffffff);
    expect(new Float64Array(mapping.buffer as ArrayBuffer, 8, 1)[0]).toBeNaN();
    registers[0] = 5;
    expect(registers[0]).toBe(5);
    expect([model.get(0), model.get(8)]).toEqual([1, 0n]);
    const lines: string[] = [];
    for await (const line of trace.lines()) lines.push(line);
    expect(lines).toEqual(['R 4 bar+0x0000 0x00000000']);
    expect(thrownBy(() => mapping.check())).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
  });
});
