/** The table of instructions is generated, and kept. */
import { join } from 'node:path';
import { runNode } from './support/child.js';

test('the table of instructions is what its generator writes', async () => {
  const run = await runNode([join(__dirname, '..', 'scripts', 'instruction-table.mjs'), '--check']);
  expect(run).toMatchObject({ status: 0, stderr: '' });
});
