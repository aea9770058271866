// Checks what the objects of handler code need from elsewhere: a file whose name ends in _inside.cc may run in a signal handler, between
// any two instructions of any program. So it takes no lock, allocates nothing, has no thread-local variable and no static variable that
// is initialised when it is first used. Each of these is a symbol that is not in the lists below.
//
//   node test/structure/inside-symbols.mjs [folder]    default: build/Release/obj.target/revocable_mmap/build/units/native
//
// An object may need what another _inside object defines, and what stands below. The last line is a count; the exit code is 1 when an
// object needs something else, when an entry of the lists is no longer needed, or when there are no objects.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** System calls by which libc only sets errno, and functions that compute. */
const SAFE = [
  ...['madvise', 'mincore', 'mmap', 'mprotect', 'mremap', 'munmap', 'syscall'],
  ...['fcntl', 'fstat', 'fstatfs', 'ioctl', 'pwrite', 'write'],
  ...['clock_gettime', 'getpid', 'pthread_sigmask', 'sigaction'],
  ...['sigaddset', 'sigandset', 'sigdelset', 'sigemptyset', 'sigfillset', 'sigorset'],
  ...['memcmp', 'memcpy', 'memmove', 'memset', 'bcmp', '__popcountdi2'],
  ...['__errno_location', '__stack_chk_fail', '_GLOBAL_OFFSET_TABLE_'],
];

/** What normal code defines and handlers use, and why they may. */
const SHARED = {
  'revocable::g_counters': 'atomics',
  'revocable::kPageShift': 'constant before the first mapping',
  'revocable::kPageSize': 'constant before the first mapping',
  'revocable::tombstone_fd()': 'returns a variable that is constant before the first mapping',
  'revocable::zero_fill_fd()': 'returns a variable that is constant before the first mapping',
  'revocable::ones_fill_fd()': 'returns a variable that is constant before the first mapping',
  'revocable::status_words()': 'returns a variable that is constant before the first mapping',
};

/** `object: symbol`, and why it is still there. */
const EXCEPTIONS = {};

const whole = process.argv[2] === undefined;
const root =
  process.argv[2] ?? fileURLToPath(new URL('../../build/Release/obj.target/revocable_mmap/build/units/native', import.meta.url));

function objectsOf(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith('_inside.o'))
    .sort();
}

function symbolsOf(object, which) {
  const listed = execFileSync('nm', ['--demangle', '--format=posix', which, join(root, object)], { encoding: 'utf8' });
  // A line is: name, type, and of what is defined, value and size. Demangled names have spaces.
  return listed
    .split('\n')
    .map((line) => line.match(/^(.*?) [A-Za-z]( [0-9a-f]* [0-9a-f]*)?\s*$/)?.[1])
    .filter((name) => name !== undefined);
}

const objects = objectsOf(root);
const inside = new Set(objects.flatMap((object) => symbolsOf(object, '--defined-only')));
const errors = [];
const unused = new Set(whole ? [...Object.keys(SHARED), ...Object.keys(EXCEPTIONS)] : []);
let symbols = 0;
for (const object of objects) {
  for (const symbol of symbolsOf(object, '--undefined-only')) {
    symbols += 1;
    // mmap64: so that offsets have 64 bits everywhere.
    if (SAFE.includes(symbol.replace(/64$/, '')) || inside.has(symbol)) continue;
    const exception = `${object}: ${symbol}`;
    if (symbol in SHARED) unused.delete(symbol);
    else if (exception in EXCEPTIONS) unused.delete(exception);
    else errors.push(`${object} needs ${symbol}, which is not known to be safe in a signal handler`);
  }
}
if (objects.length === 0) errors.push(`no objects in ${root}: run \`npm run build\``);
for (const entry of unused) errors.push(`the entry ${entry} is not needed any more: remove it`);

for (const error of errors) console.error(error);
console.log(
  `${objects.length} objects, ${symbols} symbols, ${Object.keys(EXCEPTIONS).length} exceptions, ${errors.length} errors`,
);
if (errors.length > 0) process.exitCode = 1;
