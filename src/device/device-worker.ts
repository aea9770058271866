/** The worker of a spawned device: loads the model, and answers for its device until that is removed. */
import type { MessagePort } from 'node:worker_threads';
import { Device } from './device.js';
import { MemoryObject } from '../memory/memory-object.js';
import {
  describeError,
  revivedError,
  tagged,
  type DmaNotice,
  type Notice,
  type Request,
  type SpawnData,
} from './worker-messages.js';
import type { DeviceOptions } from './device-ops.js';
import type { DmaRange, RemoteMemory } from './dma.js';

let port: MessagePort;
const cancels = new Map<number, AbortController>();

function say(notice: Notice): void {
  port.postMessage(tagged(notice));
}

async function load({ model, data }: SpawnData): Promise<DeviceOptions> {
  const module = (await import(model)) as { default?: unknown };
  // A CommonJS module compiled from an ES module has its default export one deeper.
  const found = module.default as { default?: unknown } | undefined;
  const exported = found?.default ?? found;
  if (typeof exported === 'function') return (await (exported as (data: unknown) => unknown)(data)) as DeviceOptions;
  return exported as DeviceOptions;
}

async function answer(id: number, work: (signal: AbortSignal) => unknown): Promise<void> {
  const controller = new AbortController();
  cancels.set(id, controller);
  try {
    say({ type: 'answer', id, value: await work(controller.signal) });
  } catch (error) {
    say({ type: 'answer', id, error: describeError(error) });
  } finally {
    cancels.delete(id);
  }
}

/** Ranges of DMA memory, by the number that the other thread has given them. */
const ranges = new Map<number, DmaRange>();
/** Accesses of memory that the other thread has to make. */
const accesses = new Map<number, { resolve: (bytes: Uint8Array) => void; reject: (error: unknown) => void }>();
let nextAccess = 1;

function mapDma(device: Device, { key, object, offset, ...place }: DmaNotice): void {
  const remote = elsewhere(key, place.address);
  const memory = object < 0 ? remote : { object: MemoryObject._attach(object), offset, remote };
  ranges.set(key, device.dma._add({ ...place, memory }));
}

function unmapDma(device: Device, key: number): void {
  const range = ranges.get(key);
  ranges.delete(key);
  if (range !== undefined) device.dma._remove(range);
}

function elsewhere(key: number, begin: number): RemoteMemory {
  const ask = async (make: (of: number) => Notice): Promise<Uint8Array> => {
    const of = nextAccess++;
    const answered = new Promise<Uint8Array>((resolve, reject) => accesses.set(of, { resolve, reject }));
    say(make(of));
    return answered;
  };
  return {
    read: async (address, length) => ask((of) => ({ type: 'dma-read', of, key, offset: address - begin, length })),
    write: async (address, bytes) =>
      void (await ask((of) => ({ type: 'dma-write', of, key, offset: address - begin, bytes: bytes.slice() }))),
  };
}

function answered(of: number, bytes: Uint8Array | undefined, error: unknown): void {
  const access = accesses.get(of);
  accesses.delete(of);
  if (error === undefined) access?.resolve(bytes ?? new Uint8Array(0));
  else access?.reject(error);
}

function hear(device: Device, request: Request): void {
  const backend = device._backend;
  switch (request.type) {
    case 'read':
      return void answer(request.id, (signal) => backend.read(request.file, request.length, request.position, signal));
    case 'write':
      return void answer(request.id, (signal) => backend.write(request.file, request.source, request.position, signal));
    case 'ioctl':
      return void answer(request.id, (signal) => backend.ioctl(request.file, request.command, request.argument, signal));
    case 'poll':
      return void answer(request.id, (signal) => backend.poll(request.file, signal));
    case 'drain':
      return void answer(request.id, device.drain(request.region));
    case 'remove':
      return void answer(request.id, () => device._beforeRemoval());
    case 'dma-map':
      return void answer(request.id, () => mapDma(device, request.range));
    case 'dma-unmap':
      return void answer(request.id, () => unmapDma(device, request.key));
    case 'dma-answer':
      return answered(request.of, request.bytes, request.error && revivedError(request.error, device.name, 'dma'));
    case 'unplug':
      return void device.unplug(); // `removed` tells the report
    case 'cancel':
      return cancels.get(request.of)?.abort();
    case 'raise':
      return device.raise(request.vector);
    case 'notify':
      return device.notify();
  }
}

async function serve(data: SpawnData): Promise<void> {
  const device = new Device(await load(data));
  device._clients.add({
    raise: (vector) => say({ type: 'interrupt', vector }),
    notify: () => say({ type: 'notify' }),
    removeRequested: () => say({ type: 'remove-requested' }),
    fault: ({ error, ...info }) => say({ type: 'fault', info, ...(error === undefined ? {} : { error: describeError(error) }) }),
    gone: () => say({ type: 'gone' }),
    removed: (report) => say({ type: 'removed', report }),
  });
  port.on('message', (request: Request) => hear(device, request));
  say({
    type: 'ready',
    device: device._id,
    name: device.name,
    opTimeout: device.opTimeout,
    counts: device._counts,
    pci: device._pci,
    regions: device.regions.map(({ name, size, kind, _place: place, object }) => ({
      name,
      size,
      kind,
      place,
      object: object._id,
    })),
  });
}

/** What the thread does that Device.spawn has started. */
export function runDeviceWorker(): void {
  const threads = process.getBuiltinModule('node:worker_threads');
  port = threads.parentPort!;
  // It ends the worker, and Device.spawn rejects with it. Handlers of the model's own would keep both waiting.
  serve(threads.workerData as SpawnData).catch((error: unknown) => {
    process.removeAllListeners('uncaughtException');
    process.setUncaughtExceptionCaptureCallback(null);
    queueMicrotask(() => {
      throw error;
    });
  });
}
