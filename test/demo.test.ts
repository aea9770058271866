/** The demo as it is printed: within 80 columns, and without escape codes where they are not wanted. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

const ROOT = join(__dirname, '..');
const MAIN = join(ROOT, 'demo', 'main.mjs');

interface Run {
  status: number | null;
  output: string;
}

async function run(command: string, argv: string[], env: NodeJS.ProcessEnv): Promise<Run> {
  const child = spawn(command, argv, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, output: output.replaceAll('\r\n', '\n') }));
  });
}

/** Python gives the program a terminal; its own exit status is the program's. */
const TERMINAL = `
import os, pty, sys
os.environ.update(COLUMNS='80', TERM='xterm-256color')
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))`;

// Each way in which the demo prints.
const SAMPLES = `import { claims, claim, printTable, say, startProgress } from './demo/story.mjs';
  say.title('title');
  say.line('word '.repeat(40));
  claim('it holds', true);
  claims.forEach(say.claim);
  printTable(['a', '>b'], [['x', 1]]);
  const bar = startProgress('{bar} {value}', 2);
  bar.update(1);
  bar.stop();`;

const samplesOnTerminal = (env: NodeJS.ProcessEnv): Promise<Run> =>
  run('python3', ['-c', TERMINAL, process.execPath, '--input-type=module', '-e', SAMPLES], env);

const ESCAPE = '\u001b';
const tooLong = (output: string): string[] => output.split('\n').filter((line) => [...line].length > 80);
const PLAIN = { status: 0, escapes: false, tooLong: [] };
const judged = ({ status, output }: Run): object => ({ status, escapes: output.includes(ESCAPE), tooLong: tooLong(output) });

test('into a pipe: no escape codes, at most 80 columns', async () => {
  // CI and FORCE_COLOR make libraries of colours take a pipe for a terminal.
  const demo = await run(process.execPath, [MAIN], { NO_COLOR: undefined, CI: '1', FORCE_COLOR: '1' });
  expect(judged(demo)).toEqual(PLAIN);
  expect(demo.output).toMatch(/All \d+ claims were checked and hold\.\n$/);
});

test('to a terminal with NO_COLOR: no escape codes either', async () => {
  const samples = await samplesOnTerminal({ NO_COLOR: '1' });
  expect(judged(samples)).toEqual(PLAIN);
  expect(samples.output).toContain('✔ it holds');
});

test('to a terminal: in colours, and with a bar', async () => {
  const { status, output } = await samplesOnTerminal({ NO_COLOR: undefined });
  expect(status).toBe(0);
  expect(output).toContain(`${ESCAPE}[1mtitle`);
  expect(output).toContain('■');
});
