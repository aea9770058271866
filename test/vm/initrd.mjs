// Writes an initrd for a virtual machine: a cpio archive, as the kernel unpacks it, of folders of this machine.
//
//   node test/vm/initrd.mjs <output> <folder>=<path in the machine>…
//
// Each argument adds a file, or all that is below a folder; a later one replaces what an earlier one put in the same place.
import { lstatSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const [output, ...sources] = process.argv.slice(2);
const entries = new Map();
for (const source of sources) {
  const at = source.lastIndexOf('=');
  add(source.slice(0, at), join('/', source.slice(at + 1)));
}
const archive = [...entries].map(([path, entry], index) => record(path.slice(1), entry, index + 1));
writeFileSync(output, Buffer.concat([...archive, record('TRAILER!!!', { mode: 0, content: Buffer.alloc(0) }, 0)]));

function add(from, to) {
  const status = lstatSync(from);
  if (status.isDirectory()) {
    addFolder(to);
    for (const name of readdirSync(from)) add(join(from, name), join(to, name));
    return;
  }
  addFolder(dirname(to));
  entries.set(to, { mode: status.mode, content: status.isSymbolicLink() ? Buffer.from(readlinkSync(from)) : readFileSync(from) });
}

function addFolder(path) {
  if (path === '/' || entries.has(path)) return;
  addFolder(dirname(path));
  entries.set(path, { mode: 0o40755, content: Buffer.alloc(0) });
}

/** The format `newc`: 13 numbers in hexadecimal digits, the name, the content, each padded to four bytes. */
function record(name, { mode, content }, inode) {
  const numbers = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
  const header = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}${name}\0`;
  return Buffer.concat([padded(Buffer.from(header)), padded(content)]);
}

function padded(bytes) {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
