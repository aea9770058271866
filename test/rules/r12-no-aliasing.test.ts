import type { Mapping } from 'revocable-mmap';
import { runChild, runInChild } from '../support/child.js';
import { rounds } from '../support/rounds.js';

const ENDS = ['close', 'collect', 'revoke'] as const;
/** Of a hundred mappings each. */
const ROUNDS = rounds(200);

describe('R12 a stale view never shows another mapping', () => {
  test.each(['shared', 'not shared'])(
    'R12 after close() a view (%s) shows zeros of its own while a thousand new mappings are made',
    async (kind) => {
      const run = await runInChild(
        (lib, _require, shared) => {
          const stale: { words: Uint32Array; number: number }[] = [];
          for (let i = 1; i <= 200; i++) {
            const object = lib.MemoryObject.create({ size: 8192 });
            const mapping = object.map({ shared, fill: i % 2 === 0 ? 'zeros' : 'ones' });
            const words = new Uint32Array(mapping.buffer, 0, 2048).fill(i);
            if (i % 4 === 0) object.revokeSync();
            if (i % 8 === 0) void words[5];
            if (i % 3 === 0) object.close();
            else mapping.close();
            stale.push({ words, number: i });
          }
          const news = Array.from({ length: 1000 }, (_, i) => {
            const mapping = lib.MemoryObject.create({ size: 8192 }).map({ shared });
            new Uint32Array(mapping.buffer, 0, 2048).fill(0x10000 + i);
            return mapping;
          });
          const notZero = stale.filter(({ words }) => words.some((word) => word !== 0)).length;
          for (const { words } of stale) words.fill(0xbad);
          const own = stale.filter(({ words }) => words.every((word) => word === 0xbad)).length;
          const damaged = news.filter((mapping, i) =>
            new Uint32Array(mapping.buffer, 0, 2048).some((word) => word !== 0x10000 + i),
          ).length;
          const overlaps = new Set(news.map(({ address }) => address)).size !== news.length;
          return { notZero, own, damaged, overlaps };
        },
        { input: kind === 'shared' },
      );
      expect(run).toMatchObject({ status: 0, signal: null, value: { notZero: 0, own: 200, damaged: 0, overlaps: false } });
    },
  );

  test('R12 a view in another thread outlives the mapping: zeros of its own, never a crash', async () => {
    const run = await runInChild(
      async (lib, require) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const code = `const { parentPort, workerData } = require('node:worker_threads');
          const words = new Uint32Array(workerData, 0, 1024);
          parentPort.postMessage(words[0]);
          parentPort.once('message', () => { const word = words[0]; words[1] = 5; parentPort.postMessage([word, words[1]]); });`;
        const held = new Set<Mapping>(); // until the thread has looked
        const start = (): [WeakRef<Mapping>, InstanceType<typeof Worker>] => {
          const mapping = lib.MemoryObject.create({ size: 4096 }).map();
          mapping.write32(0, 77);
          held.add(mapping);
          return [new WeakRef(mapping), new Worker(code, { eval: true, workerData: mapping.buffer })];
        };
        const [collected, worker] = start();
        const first = await new Promise((resolve) => worker.once('message', resolve));
        held.clear();
        const end = Date.now() + 20_000;
        while ((collected.deref() !== undefined || lib.stats().mappings.live > 0) && Date.now() < end) {
          await new Promise((resolve) => setTimeout(resolve, 2));
          globalThis.gc!();
        }
        const live = lib.stats().mappings.live;
        const news = Array.from({ length: 200 }, () => lib.MemoryObject.create({ size: 4096 }).map());
        for (const other of news) new Uint32Array(other.buffer, 0, 1024).fill(0x600d);
        worker.postMessage('look');
        const second = await new Promise((resolve) => worker.once('message', resolve));
        return { first, live, second, damaged: news.filter((other) => other.read32(4) !== 0x600d).length };
      },
      { nodeArgs: ['--expose-gc'] },
    );
    expect(run).toMatchObject({ status: 0, signal: null, value: { first: 77, live: 0, second: [0, 5], damaged: 0 } });
  });

  test.each(ENDS)(`R12 stale views in threads never see another mapping while ${100 * ROUNDS} come and go (%s)`, async (how) => {
    const run = await runChild('r12-storm.cjs', { args: [ROUNDS, how], nodeArgs: ['--expose-gc'], limit: 220_000 });
    console.log(run.stdout.split('\n')[0]);
    expect(run).toMatchObject({ status: 0, signal: null });
    const { readers, ...all } = JSON.parse(run.stdout.split('\n')[1]) as {
      readers: { fills: number; own: number }[];
      closed: number;
    };
    expect(all).toMatchObject({ damaged: 0, foreignSignals: 0 });
    expect(all.closed).toBeGreaterThan(75 * ROUNDS);
    for (const reader of readers) {
      expect(reader).toMatchObject({ aliased: 0 });
      expect(reader.fills).toBeGreaterThan(5 * ROUNDS);
      expect(reader.own).toBeGreaterThan(ROUNDS / 2);
    }
  });
});
