// Checks where functions of native/ are implemented: what X.h declares is in X.cc, X_inside.cc (handler code) or X_outside.cc.
//
//   node test/structure/native-headers.mjs [folder]    default: native/
//
// Reads the text as clang-format leaves it: declarations and definitions begin in the first column, and unnamed namespaces begin with the
// line `namespace {`. The last line is a count; the exit code is 1 when a function is elsewhere, or an exception is no longer needed.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Headers whose functions are elsewhere, and why. */
const EXCEPTIONS = { 'binding/exports.h': 'what each file of binding/ exports, for addon.cc' };

const whole = process.argv[2] === undefined;
const root = process.argv[2] ?? fileURLToPath(new URL('../../native', import.meta.url));

const NOT_A_FUNCTION = /^(#|\/\/|\}|inline|static|constexpr|template|namespace|using|typedef|struct|class|enum|public|private)/;

function sourcesOf(kind) {
  return readdirSync(root, { recursive: true })
    .filter((name) => name.endsWith(kind))
    .sort();
}

function stemOf(file) {
  return file.replace(/(_inside|_outside)?\.(cc|h)$/, '');
}

/** Lines outside of unnamed namespaces. */
function outerLines(file) {
  let unnamed = false;
  return readFileSync(join(root, file), 'utf8')
    .split('\n')
    .filter((line) => {
      if (line === 'namespace {') unnamed = true;
      else if (line === '}  // namespace') unnamed = false;
      return !unnamed;
    });
}

/** The name of the function that a line in the first column begins, as `name` or `Class::name`. */
function functionOf(line) {
  if (NOT_A_FUNCTION.test(line)) return undefined;
  return line.match(/^[A-Za-z_][^()=]*?((?:\w+::)?~?\w+)\(/)?.[1];
}

/** Which header declares a function or a class. */
const declared = new Map();
for (const header of sourcesOf('.h')) {
  for (const line of outerLines(header)) {
    const type = line.match(/^(?:struct|class) (\w+)[^;]*\{$/)?.[1];
    const name = type ?? functionOf(line);
    if (name !== undefined && !line.trimEnd().endsWith('{')) declared.set(name, header);
    else if (type !== undefined) declared.set(type, header);
  }
}

const errors = [];
const unused = new Set(whole ? Object.keys(EXCEPTIONS) : []);
let functions = 0;
for (const source of sourcesOf('.cc')) {
  for (const line of outerLines(source)) {
    const name = functionOf(line);
    const header = name === undefined ? undefined : declared.get(name.includes('::') ? name.split('::')[0] : name);
    if (header === undefined || line.endsWith(';')) continue;
    functions += 1;
    if (stemOf(header) === stemOf(source)) continue;
    if (header in EXCEPTIONS) unused.delete(header);
    else errors.push(`${source} has ${name}, which ${header} declares`);
  }
}
for (const exception of unused) errors.push(`the exception ${exception} is not needed any more: remove it`);

for (const error of errors) console.error(error);
console.log(`${functions} functions, ${Object.keys(EXCEPTIONS).length} exceptions, ${errors.length} errors`);
if (errors.length > 0 || functions === 0) process.exitCode = 1;
