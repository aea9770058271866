// A worker thread that runs what it is sent with a mapping: { id, handle, body, input } is answered with { id, value } or { id, error }. Begins
// by saying its thread's id in the kernel.
const { readlinkSync } = require('node:fs');
const { basename } = require('node:path');
const { parentPort } = require('node:worker_threads');
const { Mapping } = require('revocable-mmap');

const bodies = new Map();
function bodyOf(source) {
  if (!bodies.has(source)) bodies.set(source, new Function('require', `return (${source});`)(require));
  return bodies.get(source);
}

parentPort.on('message', async ({ id, handle, body, input }) => {
  const mapping = Mapping.attach(handle);
  try {
    parentPort.postMessage({ id, value: await bodyOf(body)(mapping, input) });
  } catch (error) {
    parentPort.postMessage({ id, error });
  } finally {
    mapping.close();
  }
});
parentPort.postMessage({ tid: Number(basename(readlinkSync('/proc/thread-self'))) });
