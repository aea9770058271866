// How the demo prints: titles, sentences, tables, claims; and the processes that act in it.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import cliProgress from 'cli-progress';
import pc from 'picocolors';

const COLUMNS = 80;
/** Escape codes are for terminals, and for users who have not set NO_COLOR (no-color.org). */
const ESCAPES = process.stdout.isTTY === true && !process.env.NO_COLOR;
export const colours = pc.createColors(ESCAPES);

/** Everything the demo asserts; the exit status says whether all of it holds. */
export const claims = [];

export function claim(text, holds) {
  claims.push({ text, holds: Boolean(holds) });
}

/** The text in lines of at most 80 columns, the first after `first` and the others after as many spaces. */
function wrapped(text, first) {
  const lines = [first.trimEnd()];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    const space = line.length < first.length ? first.length - line.length : Math.min(line.length, 1);
    const longer = line + ' '.repeat(space) + word;
    if (longer.length <= COLUMNS || line.trim() === '') lines[lines.length - 1] = longer;
    else lines.push(' '.repeat(first.length) + word);
  }
  return lines.join('\n');
}

export const say = {
  title: (text) => console.log(`\n${colours.bold(wrapped(text, ''))}`),
  scene: (text) => console.log(`\n${colours.bold(colours.cyan(wrapped(text, '')))}`),
  line: (text) => console.log(wrapped(text, '  ')),
  claim: ({ text, holds }) => {
    const mark = holds ? '✔' : '✘';
    console.log(wrapped(text, `  ${mark} `).replace(mark, holds ? colours.green(mark) : colours.red(mark)));
  },
};

/** Columns that begin with `>` are aligned to the right. */
export function printTable(head, rows) {
  const titles = head.map((title) => title.replace('>', ''));
  const cells = [titles, ...rows.map((row) => row.map(String))];
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const inColumn = (cell, column) => (head[column].startsWith('>') ? cell.padStart(widths[column]) : cell.padEnd(widths[column]));
  const [first, ...others] = cells.map((row) => row.map(inColumn).join('  ').trimEnd());
  console.log(`  ${colours.bold(first)}`);
  for (const line of others) console.log(`  ${line}`);
}

/** A bar while something is under way, on terminals: it moves the cursor. */
export function startProgress(format, total, payload) {
  const bar = new cliProgress.SingleBar({ format, clearOnComplete: true }, cliProgress.Presets.rect);
  if (!ESCAPES) return { update: () => undefined, stop: () => undefined };
  bar.start(total, 0, payload);
  return bar;
}

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

/** What a process prints, as soon as these words are in it. */
export function printed(child, words) {
  return new Promise((resolve, reject) => {
    let text = '';
    const onData = (data) => {
      text += data;
      if (!text.includes(words)) return;
      child.stdout.off('data', onData);
      resolve(text);
    };
    child.stdout.on('data', onData);
    child.once('close', () => reject(new Error(`it ended without the words ${JSON.stringify(words)}`)));
  });
}

/** The next line a process prints. */
export async function nextLine(child) {
  const text = await printed(child, '\n');
  return text.slice(0, text.indexOf('\n'));
}
