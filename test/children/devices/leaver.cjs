// A worker thread that touches a page of a mapping it is given, and one of a mapping it makes itself, says so, and ends.
const { parentPort, workerData } = require('node:worker_threads');
const { Mapping } = require('revocable-mmap');

const { handle, page, pageSize, how } = workerData;
const attached = Mapping.attach(handle);
const values = [attached.read8(page * pageSize)];
const own = attached.object.map();
values.push(own.read8(page * pageSize));
parentPort.postMessage(values);
if (how === 'exit') process.exit();
if (how === 'wait') parentPort.on('message', () => undefined); // until it is terminated
