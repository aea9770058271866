'use strict';
/**
 * Another process with the library: opens a path, and says what it can read, write and resize there whenever it is asked. It ends
 * when its parent disconnects.
 */
const fs = require('node:fs');
const { MemoryObject } = require('revocable-mmap');

let memory;
let mapping;

const outcome = (call) => {
  try {
    const value = call();
    return value === undefined ? 'done' : value;
  } catch (error) {
    return error.code ?? String(error);
  }
};

const answers = {
  open: ({ path, writable = true }) => outcome(() => void (memory = MemoryObject.openFile(path, { writable }))),
  size: () => outcome(() => memory.size),
  map: (options) => outcome(() => void (mapping = memory.map(options))),
  read: ({ offset }) => outcome(() => mapping.read8(offset)),
  raw: ({ offset }) => outcome(() => mapping.bytes[offset]),
  write: ({ offset, value }) => outcome(() => mapping.write8(offset, value)),
  truncate: ({ path, size }) => outcome(() => fs.truncateSync(path, size)),
  state: () => `${memory.state} ${mapping?.state ?? 'unmapped'}`,
};

process.on('message', ({ what, ...rest }) => process.send(answers[what](rest)));
