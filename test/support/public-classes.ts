/** One living object of every class whose objects users get hold of, and the classes themselves. */
import { EventEmitter } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Bus, Device, MemoryObject, RegisterFile, type FaultedPage, type Mapping } from 'revocable-mmap';
import { openPerfCounters } from 'revocable-mmap/bench';
import { connect, Mutex, Ring, serve } from 'revocable-mmap/share';
import { temporaryDirectory } from './temporary.js';

const SRC = join(__dirname, '..', '..', 'src');
const PAGE = 4096;

/** Constructors may be private. */
export interface Class {
  readonly name: string;
  readonly prototype: object;
}

/** Classes that only the library's own code has objects of. */
export const INTERNAL = [
  'Channel',
  'ClientCalls',
  'Connection',
  'InterruptQueue',
  'FastReads',
  'LineWriter',
  'Listeners',
  'MappingEntry',
  'MappingList',
  'MessageReader',
  'OpCalls',
  'OpenFiles',
  'PageRequests',
  'PageServer',
  'PciConfig',
  'PushIterator',
  'Queue',
  'RegisterRequests',
  'Removal',
  'RunningOp',
  'RunningOps',
  'ServedClient',
  'ServedDma',
  'SharedWords',
  'WriteLog',
];

function isClass(value: unknown): value is Class {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
}

/** Names of every class that a module of the library exports, but for errors. */
export function declaredClasses(): string[] {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  return files.flatMap((file) =>
    [...readFileSync(join(SRC, file), 'utf8').matchAll(/^export (?:abstract )?class (\w+)/gm)]
      .map(([, name]) => name)
      .filter((name) => !name.endsWith('Error')),
  );
}

/** The errors that users may make. */
export function exportedErrors(): Class[] {
  const entries = ['revocable-mmap', 'revocable-mmap/device', 'revocable-mmap/share', 'revocable-mmap/bench'];
  const values = entries.flatMap((entry) => Object.values(require(entry) as Record<string, unknown>));
  return [...new Set(values.filter(isClass).filter(({ prototype }) => prototype instanceof Error))];
}

/** The classes of an object, down to those that are Node's or the language's. */
export function classesOf(object: object): Class[] {
  const found: Class[] = [];
  for (let proto = Object.getPrototypeOf(object) as object | null; proto !== null; proto = Object.getPrototypeOf(proto)) {
    if (proto === EventEmitter.prototype || proto === Object.prototype) break;
    found.push(proto.constructor);
  }
  return found;
}

export interface World {
  objects: Record<string, object>;
  end(): Promise<void>;
}

export async function world(): Promise<World> {
  const memory = MemoryObject.create({ size: 4 * PAGE, name: 'world' });
  let page: FaultedPage | undefined;
  const device = new Device({
    name: 'here',
    regions: [{ size: 4 * PAGE }, { name: 'registers', size: PAGE, kind: 'registers' }],
    ops: {
      fault: (asked) => void (page = asked),
      readRegister: () => 0,
      writeRegister: () => undefined,
      read: () => 0,
      write: () => 0,
      ioctl: () => 0,
      poll: () => 0,
    },
  });
  const model = join(temporaryDirectory(), 'model.cjs');
  writeFileSync(model, `module.exports = { name: 'elsewhere', regions: [{ size: ${PAGE} }] };`);
  const spawned = await Device.spawn(model);
  const file = device.open();
  const mapping: Mapping = file.map();
  await mapping.readAsync(0, new Uint8Array(1));
  const served = new Device({ name: 'served', regions: [{ size: PAGE }] });
  const server = serve(served, { path: join(temporaryDirectory(), 'served.sock') });
  const connected = await connect(server.path);
  const state = memory.map();
  const mutex = Mutex.create(state, { offset: PAGE });
  const objects = {
    memory,
    mapping: memory.map(),
    'mapping of registers': file.map({ region: 'registers' }),
    device,
    spawned,
    file,
    region: device.regions[0],
    dma: device.dma,
    'dma range': await device.dma.map(memory, { address: 0 }),
    page: page!,
    trace: device.trace(),
    bus: new Bus(),
    'register file': new RegisterFile([{ offset: 0 }]),
    server,
    connected,
    ring: Ring.create(state, { slotSize: 8, slots: 4 }),
    mutex,
    hold: mutex.tryLock()!,
    counters: openPerfCounters(['page-faults']),
  };
  const end = async (): Promise<void> => {
    await Promise.all([device.unplug(), spawned.unplug(), connected.unplug(), served.unplug()]);
    await server.close();
    objects.bus.close();
    objects.counters.close();
    memory.close();
  };
  return { objects, end };
}
