/** The programs of the examples' drivers are assembled, and kept. */
import { join } from 'node:path';
import { runNode } from './support/child.js';

test('the WebAssembly programs are what their texts say', async () => {
  const run = await runNode([join(__dirname, '..', 'scripts', 'wasm.mjs'), '--check']);
  expect(run).toMatchObject({ status: 0, stderr: '' });
});
