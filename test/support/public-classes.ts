/** One living object of every class whose objects users get hold of, and the classes themselves. */
import { EventEmitter } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Bus, Device, MemoryObject, RegisterFile, type FaultedPage, type Mapping } from 'revocable-mmap';
import { openPerfCounters } from 'revocable-mmap/bench';
import { temporaryDirectory } from './temporary.js';

const DIST = join(__dirname, '..', '..', 'dist');
const PAGE = 4096;

/** Constructors may be private. */
export interface Class {
  readonly name: string;
  readonly prototype: object;
}

/** Classes that only the library's own code has objects of. */
export const INTERNAL = [
  'InterruptQueue',
  'LineWriter',
  'Listeners',
  'MappingEntry',
  'MappingList',
  'OpCalls',
  'OpenFiles',
  'PageRequests',
  'PushIterator',
  'Queue',
  'RegisterRequests',
  'Removal',
  'RunningOp',
  'RunningOps',
];

function isClass(value: unknown): value is Class {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
}

/** Every class that a module of the package exports, but for the worker's main module, which would run. */
export function exportedClasses(): Class[] {
  const found = new Set<Class>();
  for (const file of readdirSync(DIST, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.js') || file.endsWith('device-worker.js')) continue;
    const module = require(join(DIST, file)) as Record<string, unknown>;
    for (const value of Object.values(module)) if (isClass(value)) found.add(value);
  }
  return [...found];
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
  const objects = {
    memory,
    mapping: memory.map(),
    'mapping of registers': file.map({ region: 'registers' }),
    device,
    spawned,
    file,
    region: device.regions[0],
    page: page!,
    trace: device.trace(),
    bus: new Bus(),
    'register file': new RegisterFile([{ offset: 0 }]),
    counters: openPerfCounters(['page-faults']),
  };
  const end = async (): Promise<void> => {
    await Promise.all([device.unplug(), spawned.unplug()]);
    objects.bus.close();
    objects.counters.close();
    memory.close();
  };
  return { objects, end };
}
