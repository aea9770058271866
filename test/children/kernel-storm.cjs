'use strict';
/**
 * Threads that map, write, read, revoke and close, for LTP's mtest05 and mtest06.
 *
 *   node kernel-storm.cjs readers GENERATIONS        one writer, two readers of whatever it shares (mmap1)
 *   node kernel-storm.cjs loops THREADS LOOPS SEED   each thread maps its own (mmap3)
 *
 * Prints one line of JSON: what was counted, and the first violation found.
 */
const { isMainThread, parentPort, Worker, workerData } = require('node:worker_threads');
const { once } = require('node:events');
const { Mapping, MemoryObject, isRevokedError, stats } = require('revocable-mmap');

const PAGE = 4096;
const GONE = new Set(['ERR_MAPPING_REVOKED', 'ERR_MAPPING_CLOSED']);

/** Reads a generation's mapping until it is gone. Every word of it is the generation's canary, or 0 once it is gone. */
function readUntilGone(mapping, canary, counts) {
  const words = mapping.length / 4;
  const raw = new Uint32Array(mapping.buffer, mapping.bytes.byteOffset, words);
  for (let i = 0; ; i = (i + 1021) % words) {
    try {
      const value = mapping.read32(i * 4);
      if (value !== canary) return `checked read of generation ${canary} gave ${value}`;
      ++counts.reads;
    } catch (error) {
      if (!GONE.has(error.code)) return `unexpected: ${error.stack}`;
      ++counts.gone;
      // The error may come a moment before the writer's call returns, and only then is the memory promised to be gone.
      const end = performance.now() + 10_000;
      while (raw[i] !== 0 && performance.now() < end);
      return raw[i] === 0 ? undefined : `generation ${canary} still reads ${raw[i]} after it was gone`;
    }
    const value = raw[i];
    if (value !== canary && value !== 0) return `raw read of generation ${canary} gave ${value}`;
  }
}

function reader() {
  const counts = { reads: 0, gone: 0 };
  parentPort.on('message', (message) => {
    if (message === 'end') {
      parentPort.postMessage({ counts });
      parentPort.close();
      return;
    }
    const { handle, canary } = message;
    let violation;
    let mapping;
    try {
      mapping = Mapping.attach(handle);
    } catch (error) {
      if (!GONE.has(error.code)) violation = `attach: ${error.stack}`;
    }
    parentPort.postMessage({ attached: canary });
    if (mapping !== undefined) {
      violation = readUntilGone(mapping, canary, counts);
      mapping.close();
    }
    parentPort.postMessage({ canary, violation });
  });
}

/** A worker's messages, none lost between two waits for them. */
function inbox(worker) {
  const messages = [];
  let wake;
  worker.on('message', (message) => {
    messages.push(message);
    wake?.();
  });
  return async (wanted) => {
    for (;;) {
      const found = messages.findIndex(wanted);
      if (found >= 0) return messages.splice(found, 1)[0];
      await new Promise((resolve) => (wake = resolve));
    }
  };
}

async function writer(generations) {
  const workers = [0, 1].map(() => new Worker(__filename, { workerData: { role: 'reader' } }));
  const receive = workers.map(inbox);
  const violations = [];
  for (let canary = 1; canary <= generations && violations.length === 0; canary++) {
    const memory = MemoryObject.create({ size: 16 * PAGE });
    const mapping = memory.map();
    new Uint32Array(mapping.buffer, mapping.bytes.byteOffset, mapping.length / 4).fill(canary);
    for (const worker of workers) worker.postMessage({ handle: mapping.share(), canary });
    // Now and then before a thread has attached, mostly in the middle of their reading.
    if (canary % 8 !== 0) for (const take of receive) await take((message) => message.attached === canary);
    if (canary % 3 === 0) memory.close();
    else if (canary % 3 === 1) memory.revokeSync();
    else await memory.revoke();
    for (const take of receive) {
      const { violation } = await take((message) => message.canary === canary);
      if (violation !== undefined) violations.push(violation);
    }
    memory.close();
  }
  const counts = { reads: 0, gone: 0 };
  for (const [i, worker] of workers.entries()) {
    const ended = once(worker, 'exit');
    worker.postMessage('end');
    const message = await receive[i]((one) => one.counts !== undefined);
    counts.reads += message.counts.reads;
    counts.gone += message.counts.gone;
    await ended;
  }
  return { ...counts, violations, mappings: stats().mappings };
}

/** mulberry32: the same numbers for the same seed. */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function mapWriteUnmap(loops, seed) {
  const next = random(seed);
  const counts = { loops: 0, bytes: 0, revoked: 0 };
  for (let i = 0; i < loops; i++) {
    const pages = 1 + Math.floor(next() * 100);
    const memory = MemoryObject.create({ size: pages * PAGE });
    const mapping = memory.map({ private: next() < 0.3, shared: next() < 0.9, fill: next() < 0.5 ? 'zeros' : 'ones' });
    const byte = 1 + Math.floor(next() * 253); // neither fill
    mapping.bytes.fill(byte);
    for (const at of [0, Math.floor(next() * mapping.length), mapping.length - 1]) {
      if (mapping.read8(at) !== byte) throw new Error(`loop ${i}: ${mapping.read8(at)} at ${at} instead of ${byte}`);
    }
    counts.bytes += mapping.length;
    if (next() < 0.5) {
      memory.revokeSync();
      const at = Math.floor(next() * mapping.length);
      let seen;
      try {
        seen = mapping.read8(at);
      } catch (error) {
        if (!isRevokedError(error)) throw error;
        ++counts.revoked;
      }
      if (seen !== undefined) throw new Error(`loop ${i}: read ${seen} after the revocation`);
      const raw = mapping.bytes[at];
      if (raw !== 0 && raw !== 0xff) throw new Error(`loop ${i}: raw ${raw} after the revocation`);
    }
    memory.close();
    if (mapping.bytes[0] !== 0) throw new Error(`loop ${i}: ${mapping.bytes[0]} after close`);
    ++counts.loops;
  }
  return counts;
}

async function loops(threads, count, seed) {
  const totals = { loops: 0, bytes: 0, revoked: 0 };
  const violations = [];
  await Promise.all(
    Array.from({ length: threads }, async (_, i) => {
      const worker = new Worker(__filename, { workerData: { role: 'loops', count, seed: seed + i } });
      const ended = once(worker, 'exit');
      worker.on('error', (error) => violations.push(String(error.stack)));
      worker.on('message', (counts) => Object.keys(totals).forEach((name) => (totals[name] += counts[name])));
      await ended.catch(() => {});
    }),
  );
  return { ...totals, violations, mappings: stats().mappings };
}

async function main() {
  const [what, ...numbers] = process.argv.slice(2);
  const result = await (what === 'readers' ? writer(...numbers.map(Number)) : loops(...numbers.map(Number)));
  console.log(JSON.stringify(result));
}

if (isMainThread) main();
else if (workerData.role === 'reader') reader();
else parentPort.postMessage(mapWriteUnmap(workerData.count, workerData.seed));
