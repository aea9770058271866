/** node truncation_child.mjs READER PATH OFFSET: opens the file, says so, waits for a line, and prints what a read then does. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { READERS } from './truncation.mjs';

const [name, path, offset] = process.argv.slice(2);
const input = createInterface({ input: process.stdin });
const read = READERS[name].open(path);
if (read(Number(offset)) !== 'reads 7') throw new Error(`${name} reads something else`);
console.log('ready');
await once(input, 'line');
input.close();
try {
  console.log(read(Number(offset)));
} catch (error) {
  const { code, name: kind, message } = error as NodeJS.ErrnoException;
  console.log(`throws ${code ?? kind}: ${message.replace(path, 'FILE')}`);
}
