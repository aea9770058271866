/** The devices of `examples/devices`, each in a process of its own: they are ES modules, which Jest's CommonJS cannot load. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { runNode, type ChildResult } from './child.js';
import { rounds as scaled, strideOf } from './rounds.js';

export type Example = 'edu' | 'nic' | 'framebuffer';

/** What a test's body gets. All of it is JavaScript without types. */
export interface Kit {
  device: any;
  /** Everything the driver's module exports, and the model's, and programs.mjs. */
  driver: any;
  model: any;
  programs: any;
  Device: typeof import('revocable-mmap/device').Device;
  RegisterFile: typeof import('revocable-mmap/device').RegisterFile;
  /** A file, and mappings of the regions of that name. */
  file: any;
  map: (region: string) => any;
  input: any;
  /** What `test/children/devices/EXAMPLE-by-hand.mjs` exports, where there is such a file. */
  helpers: any;
  /** Waits, at most half a minute, until the condition holds. */
  until: (condition: () => boolean) => Promise<void>;
}

export interface ExampleOptions {
  data?: object;
  /** Where the device's ops run. Default here, in the thread of the body. */
  where?: 'here' | 'spawned';
  /** It is spawned, and removes itself within its op of this number: see test/children/devices/removing.mjs. */
  removedAt?: number;
  /** It is spawned, and the edu card's computations begin when they are looked at: see test/children/devices/looked-at.mjs. */
  lookedAt?: boolean;
  /** For the body, through JSON. */
  input?: unknown;
}

/**
 * Calls the body, which sees nothing of its surroundings, with a device in a process of its own; removes the device. Fails unless the
 * process then ends by itself, with status 0 and without a warning.
 *
 * @returns what the body returned, through JSON; bigints as numbers.
 */
export async function withExample<T = any>(
  example: Example,
  body: (kit: Kit) => T | Promise<T>,
  options: ExampleOptions = {},
): Promise<T> {
  const data = JSON.stringify(options.data ?? {});
  const wrapped = (module: string): string =>
    `await Device.spawn(urlOf('test/children/devices/${module}'), { data: { model: url.href, data: ${data}, at: ${options.removedAt} } })`;
  const makes = {
    here: `new Device(model.default(${data}))`,
    spawned: `await Device.spawn(url, { data: ${data} })`,
    removing: wrapped('removing.mjs'),
    lookedAt: wrapped('looked-at.mjs'),
  };
  const around = options.removedAt !== undefined ? 'removing' : options.lookedAt ? 'lookedAt' : undefined;
  const make = makes[around ?? options.where ?? 'here'];
  const byHand = `./test/children/devices/${example}-by-hand.mjs`;
  const helpers = existsSync(join(__dirname, '..', '..', byHand)) ? `await import('${byHand}')` : 'undefined';
  const code = `
    import { pathToFileURL } from 'node:url';
    import { Device, RegisterFile } from 'revocable-mmap/device';
    import * as programs from './examples/devices/programs.mjs';
    import * as model from './examples/devices/${example}.mjs';
    import * as driver from './examples/devices/${example}-driver.mjs';
    const urlOf = (path) => new URL(path, pathToFileURL(process.cwd() + '/'));
    const url = urlOf('examples/devices/${example}.mjs');
    const device = ${make};
    const file = device.open();
    const map = (region) => file.map({ region });
    const input = ${JSON.stringify(options.input ?? null)};
    const helpers = ${helpers};
    const until = async (condition) => {
      for (const end = Date.now() + 30_000; !condition(); ) {
        if (Date.now() > end) throw new Error('waited in vain until ' + condition);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    };
    const value = await (${body.toString()})({ Device, RegisterFile, device, driver, model, programs, file, map, input, helpers, until });
    console.log(JSON.stringify(value ?? null, (key, item) => (typeof item === 'bigint' ? Number(item) : item)));
    await device.unplug();`;
  const result = await runNode(['--input-type=module', '-e', code]);
  return answerOf(result) as T;
}

export interface Removals {
  rounds: number;
  /** Pieces of the driver's work that were done before the device went. */
  finished: number;
  /** How often each error ended one. */
  ended: Record<string, number>;
  /** What was neither. */
  wrong: string[];
}

/** Removes the device at many points of its driver's work: see test/children/device-removal.mjs. */
export async function removals(
  example: Example,
  from: string,
  where: string,
  rounds = 0,
  registers = 'checked',
): Promise<Removals> {
  const stride = where === 'spawned' ? strideOf(3) : 1;
  const argv = ['test/children/device-removal.mjs', example, from, where, String(rounds), String(stride), registers];
  const result = await runNode(argv, { limit: 220_000 });
  const tally = answerOf(result) as Removals;
  if (tally.wrong.length > 0) throw new Error(`${result.stdout.split('\n')[0]}\n${tally.wrong.join('\n')}`);
  return tally;
}

/** Whether the driver waits for an interrupt in that moment, or looks at registers, is a matter of luck. */
export function expectEndings({ ended }: Removals): void {
  expect(Object.keys(ended)).not.toEqual([]);
  for (const code of Object.keys(ended)) expect(['ENODEV', 'ERR_MAPPING_REVOKED']).toContain(code);
}

/** The cases of {@link removals}: who removes, where the ops run, how many rounds there are, or, from the other two, at least. */
export const REMOVALS: [from: string, where: string, rounds: number][] = [
  ['driver', 'here', 30],
  ['driver', 'spawned', scaled(10)],
  ['model', 'here', 10],
  ['model', 'spawned', scaled(4)],
  ['outside', 'here', scaled(30)],
  ['outside', 'spawned', scaled(15)],
];

/** The same where the driver reaches the registers in other ways: its thread is then not the device's. From `model`: inside any access. */
export const RAW_REMOVALS: [registers: string, from: string, rounds: number][] = ['raw', 'webassembly'].flatMap((registers) => [
  [registers, 'driver', scaled(4)],
  [registers, 'model', scaled(4)],
  [registers, 'outside', scaled(15)],
]);

/** The last line, parsed. */
function answerOf({ status, signal, stdout, stderr }: ChildResult): unknown {
  if (status !== 0 || stderr !== '') throw new Error(`status ${status}, signal ${signal}\n${stdout}\n${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)!);
}
