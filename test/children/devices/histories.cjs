// Random histories of a device against a model: histories.cjs SEED RUNS. What the device is asked is compared with what the model says
// after each step, and at the end to the last count. Prints { seed, steps, asked, ops }.
const fc = require('fast-check');
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const { once } = require('node:events');
const { Worker } = require('node:worker_threads');
const { Device } = require('revocable-mmap/device');

const PAGE = 4096;
const PAGES = 4;
const seed = Number(process.argv[2]);
const numRuns = Number(process.argv[3]);
const totals = { steps: {}, asked: 0, ops: {} };

// --- the model: what a device must have been asked --------------------------------------------------------------------------------

class Model {
  files = []; // { closed, mappings, released }
  mappings = []; // { file, first, pages, open, touched: Set of pages of the region }
  /** Content of the region's pages; undefined where it has none yet. */
  content = Array(PAGES).fill(undefined);
  state = 'live';
  counts = { open: 0, release: 0, mmap: 0, close: 0, fault: 0 };

  map(file, first, pages) {
    const mapping = { file, first, pages, open: true, touched: new Set() };
    ++file.mappings;
    this.mappings.push(mapping);
    return mapping;
  }

  /** Whether the device is asked, and what the toucher reads. */
  touch(mapping, page) {
    const asks = !mapping.touched.has(page);
    const present = this.content[page] !== undefined;
    mapping.touched.add(page);
    if (asks) ++this.counts.fault;
    this.content[page] ??= supplied(page);
    return { asks, present, value: this.content[page] };
  }

  zap(first, pages) {
    for (const { touched } of this.mappings) for (let page = first; page < first + pages; page++) touched.delete(page);
  }

  closeMapping(mapping) {
    mapping.open = false;
    ++this.counts.close;
    --mapping.file.mappings;
    this.release(mapping.file);
  }

  closeFile(file) {
    file.closed = true;
    this.release(file);
  }

  release(file) {
    if (!file.closed || file.mappings > 0 || file.released) return;
    file.released = true;
    ++this.counts.release;
  }

  unplug() {
    this.state = 'removed';
    for (const mapping of this.mappings) if (mapping.open) this.closeMapping(mapping);
    for (const file of this.files) this.closeFile(file);
  }
}

const supplied = (page) => 10 + page;

// --- the device, and who touches it --------------------------------------------------------------------------------------------------

class Real {
  faults = []; // as asked
  files = [];
  mappings = [];
  closed = [];
  released = [];
  afterRemoval = 0;
  removed = false;

  constructor() {
    const called = () => {
      if (this.removed) ++this.afterRemoval;
    };
    this.device = new Device({
      name: 'history',
      regions: [{ size: PAGES * PAGE }],
      opTimeout: 60_000,
      ops: {
        open: called,
        mmap: called,
        release: (file) => {
          called();
          this.released.push(file.id);
        },
        close: ({ mapping }) => {
          called();
          this.closed.push(mapping);
        },
        fault: (page) => {
          called();
          this.faults.push(page);
          const content = new Uint8Array(PAGE).fill(supplied(page.index));
          // Sometimes at once, sometimes on a later turn.
          return this.faults.length % 3 === 0 ? new Promise((resolve) => setImmediate(resolve, content)) : content;
        },
      },
    });
  }
}

function fail(what) {
  throw new Error(what);
}

function equal(what, actual, expected) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) fail(`${what}: ${a}, expected ${b}`);
}

async function eventually(what, condition) {
  const end = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > end) fail(`waited 20 s in vain until ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function within(milliseconds, step, promise) {
  let timer;
  const hung = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${step} hung for ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, hung]).finally(() => clearTimeout(timer));
}

async function codeOf(action) {
  try {
    await action();
    return undefined;
  } catch (error) {
    return error.code;
  }
}

class Toucher {
  #worker = new Worker(join(__dirname, 'toucher.cjs'));
  #next = 1;
  async ready() {
    const [{ tid }] = await once(this.#worker, 'message');
    this.tid = tid;
    this.#worker.unref();
    return this;
  }
  async ask(request) {
    const id = this.#next++;
    this.#worker.ref();
    this.#worker.postMessage({ id, ...request });
    const [answer] = await once(this.#worker, 'message');
    this.#worker.unref();
    equal('the answer is to this request', answer.id, id);
    return answer;
  }
}
let touchers;

const threadNames = new Map();
function threadName(tid) {
  if (!threadNames.has(tid)) threadNames.set(tid, readFileSync(`/proc/self/task/${tid}/comm`, 'utf8').trim());
  return threadNames.get(tid);
}

// --- the steps -----------------------------------------------------------------------------------------------------------------------

/** Events of closes are emitted on a turn of their own. */
async function compare(model, real) {
  const { open, mmap, fault, close, release } = real.device.opCounts;
  equal('calls so far', { open, mmap, fault }, (({ open, mmap, fault }) => ({ open, mmap, fault }))(model.counts));
  if (close > model.counts.close || release > model.counts.release) fail(`close ${close} release ${release}: too many`);
  await eventually(
    `close is ${model.counts.close} and release ${model.counts.release}`,
    () => real.device.opCounts.close === model.counts.close && real.device.opCounts.release === model.counts.release,
  );
  equal('states', [real.device.state, real.afterRemoval], [model.state, 0]);
  equal('each mapping closed once', new Set(real.closed).size, real.closed.length);
  equal('each file released once', new Set(real.released).size, real.released.length);
}

class Step {
  constructor(...numbers) {
    this.numbers = numbers;
  }
  check() {
    return true;
  }
  async run(model, real) {
    totals.steps[this.constructor.name] = (totals.steps[this.constructor.name] ?? 0) + 1;
    await within(20_000, this, this.act(model, real, ...this.numbers));
    await compare(model, real);
  }
  toString() {
    return `${this.constructor.name}(${this.numbers.join(', ')})`;
  }
}

const pick = (list, number) => list[number % list.length];

class Open extends Step {
  check(model) {
    return model.files.length < 3;
  }
  async act(model, real) {
    if (model.state === 'removed') return equal('open', await codeOf(() => real.device.open()), 'ENODEV');
    real.files.push(real.device.open());
    model.files.push({ closed: false, mappings: 0, released: false });
    ++model.counts.open;
  }
}

class MapRegion extends Step {
  check(model) {
    return model.files.length > 0 && model.mappings.length < 6;
  }
  async act(model, real, which, first, pages) {
    const index = which % model.files.length;
    const file = model.files[index];
    const count = Math.min(pages, PAGES - first);
    const map = () => real.files[index].map({ offset: first * PAGE, length: count * PAGE, fill: 'ones' });
    // close() said EBADF from then on; a removal that came first says ENODEV.
    if (file.closed || model.state === 'removed') {
      const expected = file.closedByUser ? 'EBADF' : 'ENODEV';
      return equal('map', await codeOf(map), expected);
    }
    ++model.counts.mmap;
    if (model.state === 'suspended') return equal('map', await codeOf(map), 'ERR_MAPPING_SUSPENDED');
    real.mappings.push(map());
    model.map(file, first, count);
  }
}

/** What an access to a mapping gives when it does not reach the device. */
function expectedError(model, mapping) {
  // The end by close is the last word; a revocation does not close.
  if (mapping.closedByUser) return 'ERR_MAPPING_CLOSED';
  if (model.state === 'removed') return 'ERR_MAPPING_REVOKED';
  return model.state === 'suspended' ? 'ERR_MAPPING_SUSPENDED' : undefined;
}

/** Compares what was asked at a touch. */
function judge(model, real, mapping, page, write, value, isToucher) {
  const { asks, present, value: expected } = model.touch(mapping, page);
  if (write === undefined) equal('value read', value, expected);
  else model.content[page] = write;
  equal('times asked', real.faults.length, model.counts.fault);
  if (!asks) return;
  ++totals.asked;
  const asked = real.faults.at(-1);
  equal(
    'the page asked for',
    [asked.region, asked.index, asked.offset, asked.mappingIndex, asked.write, asked.present],
    [0, page, page * PAGE, page - mapping.first, write !== undefined, present],
  );
  if (!isToucher(asked.thread)) fail(`asked for by thread ${asked.thread}, which did not touch the page`);
  mapping.id ??= asked.mapping;
  equal("the mapping's number", asked.mapping, mapping.id);
}

class Touch extends Step {
  check(model) {
    return model.mappings.length > 0;
  }
  async act(model, real, which, where, write) {
    const index = which % model.mappings.length;
    const [mapping, view] = [model.mappings[index], real.mappings[index]];
    const page = mapping.first + (where % mapping.pages);
    const offset = (page - mapping.first) * PAGE;
    const bytes = new Uint8Array([write ?? 0]);
    const code = await codeOf(() => (write === undefined ? view.readAsync(offset, bytes) : view.writeAsync(offset, bytes)));
    const expected = expectedError(model, mapping);
    equal('the error', code, expected);
    if (expected === undefined) {
      judge(model, real, mapping, page, write, bytes[0], (tid) => threadName(tid) === 'revocable-copy');
    }
  }
}

class WorkerTouch extends Step {
  check(model) {
    return this.numbers[3] === 0 && model.state === 'live' && model.mappings.some(({ open }) => open);
  }
  async act(model, real, which, where, write) {
    const live = model.mappings.map((_, index) => index).filter((index) => model.mappings[index].open);
    const index = pick(live, which);
    const mapping = model.mappings[index];
    const page = mapping.first + (where % mapping.pages);
    const toucher = pick(touchers, where);
    const handle = real.mappings[index].share();
    const how = write === undefined ? 'read8' : 'write8';
    const { value, code } = await toucher.ask({ handle, offset: (page - mapping.first) * PAGE, how, value: write });
    equal('the error', code, undefined);
    judge(model, real, mapping, page, write, value, (tid) => tid === toucher.tid);
  }
}

/** A worker touches a page of a mapping that is shared with it, maps the region itself, and is gone. */
class WorkerExit extends Step {
  check(model) {
    return this.numbers[2] === 0 && model.state === 'live' && model.mappings.some(({ open }) => open);
  }
  async act(model, real, which, where) {
    const live = model.mappings.map((_, index) => index).filter((index) => model.mappings[index].open);
    const index = pick(live, which);
    const mapping = model.mappings[index];
    const page = where % mapping.pages;
    const how = pick(['exit', 'wait', 'return'], where);
    const worker = new Worker(join(__dirname, 'leaver.cjs'), {
      workerData: { handle: real.mappings[index].share(), page, pageSize: PAGE, how },
    });
    const ended = once(worker, 'exit'); // asked for now: it may come in the same turn as the message
    const [values] = await once(worker, 'message');
    const first = model.touch(mapping, mapping.first + page);
    const own = model.map({ closed: false, mappings: 0, released: true }, 0, PAGES);
    const second = model.touch(own, page);
    equal('values read', values, [first.value, second.value]);
    totals.asked += Number(first.asks) + 1;
    if (how === 'wait') await worker.terminate();
    await ended;
    model.closeMapping(own);
    model.mappings.pop();
  }
}

class Zap extends Step {
  async act(model, real, first, pages) {
    const count = Math.min(pages, PAGES - first);
    const zap = () => real.device.region(0).zap({ offset: first * PAGE, length: count * PAGE });
    const expected = { live: undefined, suspended: 'ERR_MAPPING_SUSPENDED', removed: 'ENODEV' }[model.state];
    equal('zap', await codeOf(zap), expected);
    if (expected === undefined) model.zap(first, count);
  }
}

class Suspend extends Step {
  async act(model, real) {
    equal('suspend', await codeOf(() => real.device.suspend()), model.state === 'removed' ? 'ENODEV' : undefined);
    if (model.state === 'removed') return;
    model.state = 'suspended';
    model.zap(0, PAGES);
  }
}

class Resume extends Step {
  async act(model, real) {
    equal('resume', await codeOf(() => real.device.resume()), model.state === 'removed' ? 'ENODEV' : undefined);
    if (model.state !== 'removed') model.state = 'live';
  }
}

class CloseMapping extends Step {
  check(model) {
    return model.mappings.length > 0;
  }
  async act(model, real, which) {
    const index = which % model.mappings.length;
    real.mappings[index].close();
    real.mappings[index].close();
    model.mappings[index].closedByUser = true;
    if (model.mappings[index].open) model.closeMapping(model.mappings[index]);
  }
}

class CloseFile extends Step {
  check(model) {
    return model.files.length > 0;
  }
  async act(model, real, which) {
    const index = which % model.files.length;
    real.files[index].close();
    real.files[index].close();
    model.files[index].closedByUser = true;
    if (!model.files[index].closed) model.closeFile(model.files[index]);
  }
}

class Unplug extends Step {
  async act(model, real) {
    const open = model.mappings.filter((mapping) => mapping.open).length;
    const before = model.state;
    const { removedByThisCall, mappings } = await real.device.unplug();
    real.removed = true;
    equal('the report', removedByThisCall, before !== 'removed');
    if (before !== 'removed') equal('mappings in the report', mappings, open);
    if (model.state !== 'removed') model.unplug();
  }
}

const number = fc.nat(1000);
const page = fc.nat(PAGES - 1);
const pages = fc.integer({ min: 1, max: PAGES });
const write = fc.option(fc.integer({ min: 100, max: 200 }), { nil: undefined });
const rarely = (times) => fc.nat(times - 1);
const tuple = (Type, ...arbitraries) => fc.tuple(...arbitraries).map((numbers) => new Type(...numbers));
const commands = [
  fc.constant(new Open()),
  tuple(MapRegion, number, page, pages),
  tuple(MapRegion, number, page, pages),
  tuple(Touch, number, number, write),
  tuple(Touch, number, number, write),
  tuple(Touch, number, number, write),
  tuple(WorkerTouch, number, number, write, rarely(2)),
  tuple(WorkerExit, number, number, rarely(12)),
  tuple(Zap, page, pages),
  fc.constant(new Suspend()),
  fc.constant(new Resume()),
  fc.constant(new Resume()),
  tuple(CloseMapping, number),
  tuple(CloseFile, number),
  fc.nat(2).map((n) => (n === 0 ? new Unplug() : new Resume())),
];

const ended = [];

const property = fc.asyncProperty(fc.commands(commands, { maxCommands: 14, size: 'max' }), async (steps) => {
  const real = new Real();
  const model = new Model();
  try {
    // Something is open and mapped to begin with, or most histories would be about nothing.
    await new Open().run(model, real);
    await new MapRegion(0, 0, PAGES).run(model, real);
    await fc.asyncModelRun(() => ({ model, real }), steps);
    await new Unplug().run(model, real);
  } finally {
    await real.device.unplug();
  }
  ended.push({ counts: real.device.opCounts, expected: { ...model.counts } });
});

async function main() {
  touchers = await Promise.all([new Toucher().ready(), new Toucher().ready()]);
  await fc.assert(property, { seed, numRuns, endOnFailure: process.env.SHRINK === undefined });
  // Nothing was called after the fact.
  for (const { counts, expected } of ended) {
    for (const [op, times] of Object.entries(expected)) {
      equal(`${op} in the end`, counts[op], times);
      totals.ops[op] = (totals.ops[op] ?? 0) + times;
    }
  }
  console.log(JSON.stringify({ seed, ...totals }));
}

main().catch((error) => {
  console.error(`seed ${seed}: ${error.stack}\n${error.cause?.stack ?? ''}`);
  process.exit(1);
});
