// The package twice in one process: l3-two-loads.cjs `cache` (the module cache is emptied), `javascript` (but for the addon) or a directory
// with another copy of it.
const { setTimeout: sleep } = require('node:timers/promises');
const { dirname } = require('node:path');
const { stats, MemoryObject, isRevokedError } = require('revocable-mmap');
const { barrierOf } = require('../support/barrier.cjs');

const isEmptied = (how) => how === 'cache' || how === 'javascript';

function second(how) {
  if (!isEmptied(how)) return require(how);
  for (const name of Object.keys(require.cache))
    if (name.includes('/dist/') || (how === 'cache' && name.endsWith('.node'))) delete require.cache[name];
  return require('revocable-mmap');
}

async function main() {
  // So many events of each, and no more.
  const until = async (count) => {
    for (const end = Date.now() + 20_000; pairs.some(({ events }) => events.length < count) && Date.now() < end;) await sleep(1);
    for (const barrier of barriers) await barrier();
  };
  const root = dirname(require.resolve('revocable-mmap/package.json'));
  const first = barrierOf(root);
  const other = second(process.argv[2]);
  const barriers = [first, barrierOf(isEmptied(process.argv[2]) ? root : process.argv[2])];
  const libs = [{ MemoryObject, stats, isRevokedError }, other];
  const pairs = libs.map((lib) => {
    const object = lib.MemoryObject.create({ size: 8192 });
    return { object, mapping: object.map({ fill: 'ones' }), events: [] };
  });
  for (const { mapping, events } of pairs)
    mapping.on('revoked', () => events.push('revoked')).on('close', () => events.push('close'));
  const seen = [];
  for (let round = 0; round < 2; round++) {
    const { object, mapping } = pairs[1 - round];
    mapping.write32(4096, 0xcafe);
    seen.push(mapping.read32(4096));
    object.revokeSync();
    seen.push(mapping.bytes[4096]);
    try {
      mapping.read32(0);
    } catch (error) {
      seen.push(isRevokedError(error) && other.isRevokedError(error));
    }
  }
  // A mapping of the one, handed to the other one.
  const object = MemoryObject.create({ size: 4096 });
  const mapping = object.map();
  let attached;
  try {
    const twin = other.Mapping.attach(mapping.share());
    twin.write32(0, 5);
    attached = mapping.read32(0);
    object.revokeSync();
    attached = [attached, twin.state];
  } catch (error) {
    attached = error.code;
  }
  // A copy by the one out of memory of the other that has gone; and what the one says of objects of the other.
  const gone = MemoryObject.create({ size: 4096 }).map();
  gone.object.revokeSync();
  const calls = [
    () => pairs[1].object.constructor.create({ size: 4096 }).map().write(0, gone.bytes),
    () => other.Mapping.prototype.read32.call(gone, 0),
    () => other.revokeMappings(gone.object),
  ];
  const across = await Promise.all(
    calls.map(async (call) => {
      try {
        return await call();
      } catch (error) {
        return error.code;
      }
    }),
  );
  await until(1);
  for (const pair of pairs) pair.object.close();
  await until(2);
  console.log(
    JSON.stringify({
      different: other.MemoryObject !== MemoryObject,
      seen,
      attached,
      across,
      events: pairs.map(({ events }) => events),
    }),
  );
}

main();
