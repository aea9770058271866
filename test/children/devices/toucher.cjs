// A worker thread that touches mappings when asked to, and keeps nothing. { id, handle, offset, how, value?, length?, barrier? } is answered with
// { id, value } or { id, code, cause, offset, bytesTransferred }. Begins by saying its thread's id in the kernel.
const { readlinkSync } = require('node:fs');
const { basename } = require('node:path');
const { parentPort } = require('node:worker_threads');
const { Mapping } = require('revocable-mmap');

const touches = {
  read8: (mapping, { offset }) => mapping.read8(offset),
  write8: (mapping, { offset, value }) => mapping.write8(offset, value),
  raw: (mapping, { offset }) => mapping.bytes[offset],
  'raw write': (mapping, { offset, value }) => void (mapping.bytes[offset] = value),
  read: (mapping, { offset, length }) => mapping.read(offset, new Uint8Array(length)),
};

/** All who have the barrier go on at once. */
function meet({ words, count }) {
  const word = new Int32Array(words);
  if (Atomics.add(word, 0, 1) + 1 === count) Atomics.notify(word, 0);
  for (let seen; (seen = Atomics.load(word, 0)) < count;) Atomics.wait(word, 0, seen, 20);
}

function perform(request) {
  const mapping = Mapping.attach(request.handle);
  try {
    if (request.barrier !== undefined) meet(request.barrier);
    return { value: touches[request.how](mapping, request) };
  } catch ({ code, cause, offset, bytesTransferred }) {
    return { code, cause: typeof cause === 'string' ? cause : undefined, offset, bytesTransferred };
  } finally {
    mapping.close();
  }
}

parentPort.on('message', (request) => parentPort.postMessage({ id: request.id, ...perform(request) }));
parentPort.postMessage({ tid: Number(basename(readlinkSync('/proc/thread-self'))) });
