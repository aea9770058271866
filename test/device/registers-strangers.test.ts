import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runChild, type ChildResult } from '../support/child.js';
import { describeTrapped, testUnless } from '../support/conditions.js';
import { temporaryDirectory } from '../support/temporary.js';

const CHILD = 'devices/register-strangers.cjs';
const LIMIT = 220_000;
const SA_SIGINFO = 4;
const SA_RESETHAND = 0x80000000;

let library: string;
beforeAll(() => {
  const directory = temporaryDirectory();
  library = join(directory, 'stop.so');
  writeFileSync(join(directory, 'stop.c'), 'void stop_here(void) { __asm__ volatile("int3"); }\n');
  execFileSync('cc', ['-shared', '-fPIC', '-o', library, join(directory, 'stop.c')]);
});

const run = (...args: (string | number)[]): Promise<ChildResult> => runChild(CHILD, { args, limit: LIMIT });
const endOf = async (...args: (string | number)[]): Promise<unknown> => {
  const { status, signal, stdout } = await run(...args);
  return { status, signal, stdout };
};
async function answerOf(...args: (string | number)[]): Promise<unknown> {
  const { status, signal, stdout, stderr } = await run(...args);
  if (status !== 0) throw new Error(`status ${status}, signal ${signal}\n${stdout}\n${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)!);
}

describeTrapped('A9 SIGTRAP of strangers, while registers are accessed raw', () => {
  test.each(['int3', 'kill'])('A9 %s kills, with the library as without it', async (what) => {
    const died = { status: null, signal: 'SIGTRAP', stdout: 'before\n' };
    expect(await endOf('plain', 'without', what, library)).toEqual(died);
    expect(await endOf('plain', 'with', what, library)).toEqual(died);
  });

  const handlers = ['before', 'after'].flatMap((order) =>
    [0, SA_SIGINFO, SA_RESETHAND].flatMap((flags) => ['int3', 'kill'].map((what) => [order, flags, what] as const)),
  );
  test.each(handlers)("A9 another's handler, set %s with flags %i, gets %s", async (order, flags, what) => {
    expect(await endOf('handler', order, flags, what, library)).toEqual({ status: 5, signal: null, stdout: 'before\n' });
  });

  test('A9 where it is ignored it stays ignored, and a breakpoint kills', async () => {
    expect(await endOf('ignored', library)).toEqual({ status: null, signal: 'SIGTRAP', stdout: 'before\n' });
  });

  test.each(['before', 'after'])("A9 process.on('SIGTRAP') %s the library hears, and accesses are stepped on", async (order) => {
    const warnings = order === 'after' ? ['REVOCABLE_MMAP_DISPLACED'] : [];
    expect(await answerOf('listener', order)).toEqual({ heard: 3, warnings });
  });

  test('A9 a listener that has gone leaves the default', async () => {
    expect(await endOf('listenerRemoved')).toEqual({ status: null, signal: 'SIGTRAP', stdout: 'before\n' });
  });

  test('A9 a handler that is installed by a system call is noticed, and the own one put back', async () => {
    expect(await answerOf('displaced')).toEqual({ warnings: ['REVOCABLE_MMAP_DISPLACED'] });
  });
});

describeTrapped('A9 profilers and tracers, while three threads access registers raw', () => {
  const right = { wrong: 0, counted: true, samples: true };

  test('A9 --cpu-prof', async () => {
    const directory = temporaryDirectory();
    const nodeArgs = ['--cpu-prof', `--cpu-prof-dir=${directory}`, '--cpu-prof-interval=100'];
    const { status, signal, stdout, stderr } = await runChild(CHILD, { args: ['busy', 'no', 1500], nodeArgs, limit: LIMIT });
    expect({ status, signal, stderr, right: JSON.parse(stdout) as unknown }).toEqual({
      status: 0,
      signal: null,
      stderr: '',
      right,
    });
    const profiles = readdirSync(directory).map(
      (name) => JSON.parse(readFileSync(join(directory, name), 'utf8')) as { samples: [] },
    );
    expect(profiles.length).toBeGreaterThanOrEqual(1);
    for (const { samples } of profiles) expect(samples.length).toBeGreaterThan(10);
  });

  test('A9 --prof', async () => {
    const nodeArgs = ['--prof', '--no-logfile-per-isolate', `--logfile=${join(temporaryDirectory(), 'v8.log')}`];
    const { status, signal, stdout, stderr } = await runChild(CHILD, { args: ['busy', 'no', 1500], nodeArgs, limit: LIMIT });
    expect({ status, signal, stderr, right: JSON.parse(stdout) as unknown }).toEqual({
      status: 0,
      signal: null,
      stderr: '',
      right,
    });
  });

  test("A9 the inspector's profiler, in each thread", async () => {
    expect(await answerOf('busy', 'inspector', 1500)).toEqual(right);
  });

  const tracer = join(temporaryDirectory(), 'tracer');
  execFileSync('cc', ['-O1', '-o', tracer, join(__dirname, '..', 'children', 'devices', 'tracer.c')]);
  // Containers and the kernel's own settings (yama) may forbid it. Whatever else goes wrong there is for the test to say.
  const probe = spawnSync(tracer, ['true'], { encoding: 'utf8', timeout: LIMIT });
  const whyNoTracer = probe.status === 126 ? probe.stderr.trim() : undefined;

  testUnless(whyNoTracer, 'A9 a tracer that hands on every signal', async () => {
    const child = spawn(tracer, [process.execPath, join(__dirname, '..', 'children', CHILD), 'busy', 'no', '200'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT);
    const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
    clearTimeout(timer);
    if (status !== 0) throw new Error(`status ${status}, signal ${signal}\n${stdout}\n${stderr}`);
    expect(JSON.parse(stdout)).toEqual(right);
    expect(Number(/^(\d+) signals/m.exec(stderr)?.[1])).toBeGreaterThan(5000);
  });
});
