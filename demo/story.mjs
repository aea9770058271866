// How the demo talks: titles, sentences, claims, and processes that do the acting.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import pc from 'picocolors';

/** Everything the demo asserts; the exit status says whether all of it holds. */
export const claims = [];

export function claim(text, holds) {
  claims.push({ text, holds: Boolean(holds) });
}

export const say = {
  title: (text) => console.log(`\n${pc.bold(text)}`),
  scene: (text) => console.log(`\n${pc.bold(pc.cyan(text))}`),
  line: (text) => console.log(`  ${text}`),
};

/** Starts `node demo/NAME` without core dumps. */
export function start(name, args = [], options = {}) {
  const program = fileURLToPath(new URL(name, import.meta.url));
  return spawn('sh', ['-c', 'ulimit -c 0; exec "$0" "$@"', process.execPath, program, ...args.map(String)], options);
}

/** How a process ended: { status, signal, output }. */
export function ended(child) {
  let output = '';
  child.stdout?.on('data', (data) => (output += data));
  child.stderr?.on('data', (data) => (output += data));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, output }));
  });
}

/** Another process truncates the file to nothing. */
export async function truncateElsewhere(path) {
  const { status } = await ended(start('truncate.mjs', [path], { stdio: ['ignore', 'pipe', 'pipe'] }));
  if (status !== 0) throw new Error(`truncating ${path} failed`);
}

/** The next line a process prints. */
export function nextLine(child) {
  return new Promise((resolve, reject) => {
    let text = '';
    const onData = (data) => {
      text += data;
      if (!text.includes('\n')) return;
      child.stdout.off('data', onData);
      resolve(text.slice(0, text.indexOf('\n')));
    };
    child.stdout.on('data', onData);
    child.once('close', () => reject(new Error('it ended without a word')));
  });
}
