// Ten lines that kill Node: a file mapped by calling mmap(2) directly, and then another process truncates the file.
import koffi from 'koffi';
import { openSync } from 'node:fs';
const libc = koffi.load('libc.so.6');
const mmap = libc.func('void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)');
const MAP_SHARED = 1;
const PROT_READ = 1;
const bytes = new Uint8Array(koffi.view(mmap(null, 65536, PROT_READ, MAP_SHARED, openSync(process.argv[2]), 0), 65536));
process.on('uncaughtException', () => console.log('caught')); // never called: a signal is not an exception
console.log(`first byte ${bytes[8192]}`);
process.stdin.once('data', () => console.log(`after: ${bytes[8192]}`));
