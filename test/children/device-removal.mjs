/**
 * A device of examples/devices is removed while its driver works: device-removal.mjs DEVICE FROM WHERE [ROUNDS STRIDE REGISTERS SEED].
 *
 * FROM: `driver`: before each call, one after the other, that the driver makes on its file and mappings; `model`: from inside each op;
 * `outside`: ROUNDS times, at times that the seed gives. WHERE the ops run: `here` or `spawned`. Of the calls or ops each STRIDEth is taken,
 * from one that the seed gives. REGISTERS: how the driver reaches those: `checked`, `raw` or `webassembly`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Mapping } from 'revocable-mmap';
import { Device, DeviceFile } from 'revocable-mmap/device';
import { JOBS } from './devices/jobs.mjs';
import removing from './devices/removing.mjs';
import { random, seedFrom } from './random.cjs';

const [name, from, where, rounds, strideGiven, registers, seedGiven] = process.argv.slice(2);
const LIMIT_MS = 15_000;
const GONE = ['ERR_MAPPING_REVOKED', 'ENODEV'];
const REMOVING = new URL('./devices/removing.mjs', import.meta.url);
const MODEL = new URL(`../../examples/devices/${name}.mjs`, import.meta.url).href;
const job = JOBS[name];

const tally = { rounds: 0, finished: 0, ended: {}, wrong: [] };
const seed = seedFrom(seedGiven);
console.log(`seed ${seed}`);
const next = random(seed);

if (from === 'outside') {
  for (let round = 0; round < Number(rounds); round++) await removeOutside(next(30_000) / 1000);
} else {
  // Until the job is over before its device is removed.
  const stride = Number(strideGiven);
  for (let at = 1 + next(stride); await (from === 'driver' ? removeBeforeCall(at) : removeInOp(at)); at += stride);
}
console.log(JSON.stringify(tally));

/** `at`: which call of an op removes the device; never by default. */
async function make(at) {
  const data = { model: MODEL, data: job.data, at };
  return where === 'spawned' ? Device.spawn(REMOVING, { data }) : new Device(await removing(data));
}

async function removeInOp(at) {
  const device = await make(at);
  return finish(device, await work(device, `in op ${at}`), `in op ${at}`);
}

async function removeBeforeCall(at) {
  const device = await make();
  return finish(device, await work(watched(device, at), `before call ${at}`), `before call ${at}`);
}

async function removeOutside(milliseconds) {
  const point = `after ${milliseconds} ms`;
  const device = await make();
  const working = work(device, point);
  await sleep(milliseconds);
  // Some of the removals are to come in the middle of a turn.
  if (milliseconds % 1 > 0.5) await Promise.resolve();
  await device.unplug();
  return finish(device, await working, point);
}

/** The driver, or undefined when the device had gone before it could be made. */
async function work(device, point) {
  try {
    const driver = new job.Driver(device, { ...job.options, registers });
    await Promise.all(job.work(driver).map((promise) => judge(promise, point)));
    return driver;
  } catch (error) {
    count(error, point);
    return undefined;
  }
}

/** Whether the device was removed in time. */
async function finish(device, driver, point) {
  tally.rounds++;
  const inTime = device.state === 'removed';
  await within(device.unplug(), point);
  for (const call of driver === undefined ? [] : job.calls) {
    if (await judge(new Promise((resolve) => resolve(call(driver))), `${point}, afterwards`))
      tally.wrong.push(`${point}: ${call} works afterwards`);
  }
  driver?.close();
  return inTime;
}

/** True when it was done; else it ended with the device. */
async function judge(promise, point) {
  try {
    await within(promise, point);
    tally.finished++;
    return true;
  } catch (error) {
    count(error, point);
    return false;
  }
}

function count(error, point) {
  const code = error?.code ?? String(error);
  tally.ended[code] = (tally.ended[code] ?? 0) + 1;
  if (!GONE.includes(code)) tally.wrong.push(`${point}: ${error?.stack ?? error}`);
}

async function within(promise, point) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`hangs: ${point}, seed ${seed}`)), LIMIT_MS);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** The device for a driver: its call number `at`, of a file, a mapping or an iteration of interrupts, comes after the removal has begun. */
function watched(device, at) {
  let calls = 0;
  const watch = (target) =>
    new Proxy(target, {
      get(_, key) {
        const value = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        return (...args) => {
          if (++calls === at) void device.unplug();
          const result = value.apply(target, args);
          return result instanceof DeviceFile || result instanceof Mapping || result?.next !== undefined ? watch(result) : result;
        };
      },
    });
  return watch(device);
}
