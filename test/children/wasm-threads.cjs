// A worker's WebAssembly loops over a mapping inside its memory: wasm-threads.cjs ACT ROUNDS PROGRAM (base64). Prints a line for each
// round: what the loop saw in the end, and what the worker's own handle then says.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const { setTimeout: sleep } = require('node:timers/promises');
const { MemoryObject, Mapping, stats } = require('revocable-mmap');

const AT = 65536;

if (isMainThread) main();
else worker();

function worker() {
  const program = new WebAssembly.Module(workerData);
  parentPort.on('message', ({ handle, end }) => {
    if (end) return parentPort.close();
    const mapping = Mapping.attach(handle);
    const { poll, store32 } = new WebAssembly.Instance(program, { env: { memory: mapping.memory } }).exports;
    store32(AT + 4, 4711); // the main thread waits for it
    const seen = poll(AT, 1);
    let code = 'none';
    try {
      mapping.read32(0);
    } catch (error) {
      code = error.code;
    }
    mapping.close();
    parentPort.postMessage({ seen, code });
  });
}

async function main() {
  const [, , act, rounds, program] = process.argv;
  const thread = new Worker(__filename, { workerData: Buffer.from(program, 'base64') });
  const answers = {};
  for (let round = 0; round < Number(rounds); round++) {
    const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
    const object = MemoryObject.create({ size: 8192 });
    const mapping = object.map({ memory, memoryOffset: AT, fill: 'ones' });
    mapping.write32(0, 1);
    thread.postMessage({ handle: mapping.share() });
    while (mapping.read32(4) !== 4711) await sleep(1);
    await sleep(round % 7);
    const answer = once(thread, 'message');
    await { revoke: () => object.revoke(), suspend: () => object.suspend(), close: () => mapping.close() }[act]();
    const [{ seen, code }] = await answer;
    if (act === 'suspend') await object.resume();
    const words = [seen, code, act === 'suspend' ? mapping.read32(0) : new Uint32Array(memory.buffer)[AT / 4]].join(' ');
    answers[words] = (answers[words] ?? 0) + 1;
    object.close();
  }
  thread.postMessage({ end: true });
  await once(thread, 'exit');
  console.log(JSON.stringify({ answers, open: stats().mappings.live }));
}
