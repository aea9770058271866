/** The worker of a spawned device: loads the model, and answers for its device until that is removed. */
import type { MessagePort } from 'node:worker_threads';
import { Device } from './device.js';
import { describeError, tagged, type Notice, type Request, type SpawnData } from './worker-messages.js';
import type { DeviceOptions } from './device-ops.js';

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
    regions: device.regions.map(({ name, size, kind, object }) => ({ name, size, kind, object: object._id })),
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
