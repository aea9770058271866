// `npm run check`: what can be checked without building native code or running tests, as many checks at a time as there are processors.
// Prints a line for each, and the output of those that fail; status 1 if any does.
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';

const CHECKS = {
  lint: 'npm run --silent lint', // and the import rules and the documents
  types: 'npm run --silent types',
  format: 'npm run --silent format:check',
  spelling: 'npm run --silent spell',
};

const waiting = Object.entries(CHECKS);
await Promise.all(Array.from({ length: availableParallelism() }, work));

async function work() {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await check(...next);
}

async function check(name, command) {
  const begin = performance.now();
  const { status, output } = await run(command);
  const seconds = ((performance.now() - begin) / 1000).toFixed(0);
  console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${name}, ${seconds} s`);
  if (status === 0) return;
  console.log(output);
  process.exitCode = 1;
}

function run(command) {
  const child = spawn(command, { shell: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, output }));
  });
}
