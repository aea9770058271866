/** The programs in `examples/`, as a reader runs them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runNode } from './support/child.js';
import { temporaryDirectory } from './support/temporary.js';

test('edu: one driver reaches the card in three ways, and learns of its removal', async () => {
  const { status, stdout, stderr } = await runNode(['examples/edu.mjs']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toBe(
    [
      'checked: edu 1.0, 10! = 3628800',
      'raw: edu 1.0, 10! = 3628800',
      'webassembly: edu 1.0, 10! = 3628800',
      'pulled out while it computes: ENODEV\n',
    ].join('\n'),
  );
});

test('network-card: frames come back, until the card is pulled out', async () => {
  const { status, stdout, stderr } = await runNode(['examples/network-card.mjs']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toBe(
    [
      'sent first, received first',
      'sent second, received second',
      'sent third, received third',
      '3 sent, 3 received, 0 dropped',
      'pulled out while a frame is waited for: ENODEV\n',
    ].join('\n'),
  );
});

test('framebuffer: a picture, of whose pages only those are drawn that are looked at', async () => {
  const path = join(temporaryDirectory(), 'picture.ppm');
  const { status, stdout, stderr } = await runNode(['examples/framebuffer.mjs', path]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const lines = stdout.trimEnd().split('\n');
  expect(lines).toHaveLength(22);
  expect(new Set(lines.slice(0, 20).join('')).size).toBeGreaterThan(3);
  const [, drawn, pages] = /^(\d+) pages drawn of (\d+)$/.exec(lines[20])!.map(Number);
  expect(drawn).toBeGreaterThan(0);
  expect(drawn).toBeLessThan(pages);
  expect(lines[21]).toBe('pulled out: ERR_MAPPING_REVOKED');
  expect(readFileSync(path).subarray(0, 15).toString('latin1')).toBe('P6\n640 400\n255\n');
});
