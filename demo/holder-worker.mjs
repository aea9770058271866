// A worker thread that attaches to the device's memory.
import { parentPort, workerData } from 'node:worker_threads';
import { Mapping } from 'revocable-mmap';
import { consume } from './ring.mjs';

const ring = Mapping.attach(workerData.ring);
const control = Mapping.attach(workerData.control);
parentPort.postMessage('ready');
const { error, ...seen } = consume(ring, control, workerData.holder);
parentPort.postMessage({ ...seen, code: error?.code, state: ring.state });
