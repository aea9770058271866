/** The WebAssembly programs of the drivers here, and the memory that they run in. */
import { readFileSync } from 'node:fs';

const PAGE = 65_536;

/** Shared memory of at least so many bytes that cannot grow, as mappings need it: docs/explanation/unsafe.md. Pages that are not touched cost nothing. */
export function memoryOf(bytes) {
  const pages = Math.ceil(bytes / PAGE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** The functions of the program of that name, in that memory. */
export function programIn(memory, name) {
  const module = new WebAssembly.Module(readFileSync(new URL(`./${name}.wasm`, import.meta.url)));
  return new WebAssembly.Instance(module, { env: { memory } }).exports;
}
