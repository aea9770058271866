import { truncateSync } from 'node:fs';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { BackingFaultError, Device, MappingRevokedError, MemoryObject } from 'revocable-mmap';
import { runChild } from '../support/child.js';
import { rounds } from '../support/rounds.js';
import { temporaryDirectory, temporaryFile } from '../support/temporary.js';
import { thrownBy } from '../support/thrown.js';

const PAGE = 4096;
const ROUNDS = rounds(100);

describe('R5 states, check() and checked accesses tell one story', () => {
  test.each(['revokeSync', 'revoke', 'close', 'truncate', 'owner', 'unplug'])(
    'R5 no answer that a thread is given says less than one before: %s',
    async (how) => {
      const { status, signal, stdout, stderr } = await runChild('state-storm.cjs', {
        args: [how, ROUNDS],
        env: { SCRATCH: temporaryDirectory() },
      });
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
      const { wrong, asked, changes } = JSON.parse(stdout) as { wrong: string[]; asked: number; changes: number };
      expect(wrong).toEqual([]);
      expect(changes).toBeGreaterThanOrEqual(ROUNDS); // the reader saw each of them go
      expect(asked).toBeGreaterThan(40 * ROUNDS);
    },
  );

  test('R5 when revoke() has returned its promise, every mapping is revoked for every access', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mappings = Array.from({ length: 3000 }, () => memory.map());
    const revoked = memory.revoke();
    expect(memory.state).toBe('revoked');
    expect(new Set(mappings.map((mapping) => mapping.state))).toEqual(new Set(['revoked']));
    for (const mapping of mappings) {
      expect(thrownBy(() => mapping.read32(0)).code).toBe('ERR_MAPPING_REVOKED');
    }
    expect((await revoked).mappings).toBe(3000);
    memory.close();
  });

  test('R9 suspended and resumed are one moment too', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const mappings = Array.from({ length: 200 }, () => memory.map());
    for (let round = 0; round < 20; round++) {
      await memory.suspend();
      expect(new Set([memory.state, ...mappings.map((mapping) => mapping.state)])).toEqual(new Set(['suspended']));
      await memory.resume();
      expect(new Set([memory.state, ...mappings.map((mapping) => mapping.state)])).toEqual(new Set(['live']));
      for (const mapping of mappings) expect(mapping.read32(0)).toBe(0);
    }
    memory.close();
  });

  test('R5 a worker that has the memory by its descriptor finds every answer changed by the first', async () => {
    const memory = MemoryObject.create({ size: PAGE });
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { MemoryObject } = require(workerData.path);
      const memory = MemoryObject.fromFd(workerData.fd, { writable: true });
      const mapping = memory.map();
      const other = memory.map();
      parentPort.once('message', () => {
        let code = 'nothing';
        try { mapping.check(); } catch (error) { code = error.code; }
        parentPort.postMessage([code, mapping.state, other.state, memory.state]);
      });
      parentPort.postMessage('mapped');`;
    const path = require.resolve('../../dist/index.js');
    const worker = new Worker(code, { eval: true, workerData: { path, fd: memory.fd } });
    await once(worker, 'message');
    memory.revokeSync();
    worker.postMessage('look');
    expect(await once(worker, 'message')).toEqual([['ERR_MAPPING_REVOKED', 'revoked', 'revoked', 'revoked']]);
    await worker.terminate();
    memory.close();
  });
});

describe('R9 the state of a device is that of its regions', () => {
  test('R9 suspended by itself or region by region, and as seen by another thread', async () => {
    const device = new Device({ name: 'd', regions: [{ size: PAGE }, { size: PAGE }] });
    expect(device.state).toBe('live');
    await device.suspend();
    expect([device.state, ...device.regions.map(({ object }) => object.state)]).toEqual(['suspended', 'suspended', 'suspended']);
    await device.region(0).object.resume();
    expect(device.state).toBe('live');
    device.region(0).object.revokeSync();
    expect(device.state).toBe('suspended'); // what is left of it is
    await device.resume();
    expect(device.state).toBe('live');
    const unplugged = device.unplug();
    expect([device.state, ...device.regions.map(({ object }) => object.state)]).toEqual(['removed', 'revoked', 'revoked']);
    await unplugged;
  });
});

describe('A1 revoked is revoked everywhere', () => {
  test('A1 also on a page that had been lost to a backing fault before', () => {
    const path = temporaryFile(4 * PAGE);
    const file = MemoryObject.openFile(path, { writable: true });
    const mapping = file.map();
    truncateSync(path, 2 * PAGE);
    expect(thrownBy(() => mapping.read8(2 * PAGE))).toBeInstanceOf(BackingFaultError);
    mapping.bytes[3 * PAGE] = 1;
    file.revokeSync(new Error('unplugged'));
    for (const at of [0, 2 * PAGE, 3 * PAGE]) {
      for (const access of [
        () => mapping.read8(at),
        () => mapping.read16(at),
        () => mapping.read32(at),
        () => mapping.read64(at),
        () => mapping.write8(at, 1),
        () => mapping.write32(at, 1),
        () => mapping.write64(at, 1n),
        () => mapping.read(at, new Uint8Array(9)),
        () => mapping.write(at, new Uint8Array(9)),
        () => mapping.check({ offset: at, length: PAGE }),
        () => mapping.prefetch({ offset: at, length: PAGE }),
        () => mapping.waitSync(at, 0),
        () => mapping.wake(at),
      ]) {
        const error = thrownBy(access);
        expect(error).toBeInstanceOf(MappingRevokedError);
        expect(error.cause).toMatchObject({ message: 'unplugged' });
      }
    }
    file.close();
  });

  test('A7 the access that meets the fault which revokes the object has that fault as its error, and later ones the revocation', () => {
    const path = temporaryFile(4 * PAGE);
    const file = MemoryObject.openFile(path, { onBackingFault: 'object' });
    const mapping = file.map();
    truncateSync(path, 2 * PAGE);
    expect(thrownBy(() => mapping.read8(2 * PAGE))).toMatchObject({ code: 'ERR_BACKING_FAULT', offset: 2 * PAGE });
    for (const at of [2 * PAGE, 2 * PAGE + 1, 0]) {
      const error = thrownBy(() => mapping.read8(at));
      expect(error).toMatchObject({ code: 'ERR_MAPPING_REVOKED', offset: at });
      expect(error.cause).toMatchObject({ code: 'ERR_BACKING_FAULT', cause: 'past-end' });
    }
    file.close();
  });
});
