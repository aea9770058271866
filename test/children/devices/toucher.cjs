// A worker thread that touches mappings when asked to: { id, handle, offset, write? }, answered with { id, value } or { id, code }. It keeps
// nothing. Begins by saying its thread's id in the kernel.
const { readlinkSync } = require('node:fs');
const { basename } = require('node:path');
const { parentPort } = require('node:worker_threads');
const { Mapping } = require('revocable-mmap');

function perform({ handle, offset, write }) {
  const mapping = Mapping.attach(handle);
  try {
    if (write === undefined) return { value: mapping.read8(offset) };
    mapping.write8(offset, write);
    return { value: write };
  } catch (error) {
    return { code: error.code };
  } finally {
    mapping.close();
  }
}

parentPort.on('message', (request) => parentPort.postMessage({ id: request.id, ...perform(request) }));
parentPort.postMessage({ tid: Number(basename(readlinkSync('/proc/thread-self'))) });
