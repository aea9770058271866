// A program that writes a log for as long as it is asked to.
import { appendFileSync } from 'node:fs';

const [path] = process.argv.slice(2);
let line = 0;
const timer = setInterval(() => {
  let text = '';
  for (let i = 0; i < 200; i++) text += `${String(++line).padStart(8, '0')} the quick brown fox jumps over the lazy dog\n`;
  appendFileSync(path, text);
}, 5);
process.stdin.once('end', () => clearInterval(timer)).resume();
console.log('writing');
