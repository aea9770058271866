// A worker that waits for the word at OFFSET of the mapping it is given, and posts how the wait ended.
const { parentPort, workerData } = require('node:worker_threads');
const { Mapping } = require('revocable-mmap');

const mapping = Mapping.attach(workerData.handle);
parentPort.postMessage('waiting');
let outcome;
try {
  outcome = mapping.waitSync(workerData.offset ?? 0, workerData.expected ?? 0, workerData.options);
} catch (error) {
  outcome = error.code;
}
parentPort.postMessage(outcome);
