// Assembles the programs of examples/devices: a .wasm beside each .wat. `--check` compares instead, and fails when one is not what would
// be written.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import wabt from 'wabt';

const DIRECTORY = new URL('../examples/devices/', import.meta.url);
const { parseWat } = await wabt();

for (const name of readdirSync(DIRECTORY).filter((file) => file.endsWith('.wat'))) {
  const bytes = assemble(name);
  new WebAssembly.Module(bytes); // throws what is wrong with it
  const file = new URL(name.replace(/wat$/, 'wasm'), DIRECTORY);
  if (!process.argv.includes('--check')) writeFileSync(file, bytes);
  else if (Buffer.compare(readFileSync(file), bytes) !== 0) throw new Error(`${name} has changed: npm run generate:wasm`);
}

function assemble(name) {
  const program = parseWat(name, readFileSync(new URL(name, DIRECTORY), 'utf8'), { threads: true, bulk_memory: true });
  try {
    return program.toBinary({}).buffer;
  } finally {
    program.destroy();
  }
}
