/** Things without a size, or of size 0: empty files, character devices, block devices, mappings smaller than a word. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Device, MemoryObject, type Mapping } from 'revocable-mmap';
import { touch } from 'revocable-mmap/bench';
import { testUnless, whyNoLoopDevice } from '../support/conditions.js';
import { beforeRemoval, temporaryDirectory, temporaryFile } from '../support/temporary.js';
import { rejectionOf, thrownBy } from '../support/thrown.js';

const PAGE = 4096;
const PAST_END = { code: 'ERR_BACKING_FAULT', cause: 'past-end' };

/** The error of a map() that needs a length, and its words. */
function expectLengthNeeded(object: MemoryObject, why: string): void {
  for (const options of [undefined, {}, { offset: 0 }, { offset: PAGE }, { access: 'r' as const, shared: false }]) {
    const error = thrownBy(() => object.map(options));
    expect(error).toMatchObject({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
    expect(error.message).toBe(`The argument "options.length" must be given for ${object.name}, ${why}. Received undefined`);
  }
}

describe('an empty file', () => {
  let path: string;
  let object: MemoryObject;
  beforeEach(() => {
    path = temporaryFile(0);
    object = MemoryObject.openFile(path, { writable: true });
  });
  afterEach(() => object.close());

  test('needs a length to be mapped', () => {
    expectLengthNeeded(object, 'which is empty');
    expect([object.size, inspect(object)]).toEqual([0, `MemoryObject <${path} 0 B not owned live>`]);
  });

  test('mapped with one, every page is past its end, and each call says so', () => {
    const mapping = object.map({ length: 2 * PAGE });
    expect([...mapping.residency()]).toEqual([0, 0]);
    const calls = [
      () => mapping.read8(0),
      () => mapping.write32(PAGE, 1),
      () => mapping.check(),
      () => mapping.check({ offset: PAGE, length: PAGE }),
      () => mapping.prefetch(),
      () => mapping.lock(),
      () => mapping.advise('populate-read'),
    ];
    for (const call of calls) expect([String(call), thrownBy(call)]).toEqual([String(call), expect.objectContaining(PAST_END)]);
    mapping.sync();
    mapping.unlock();
    mapping.advise('willneed');
    object.zap();
    expect(mapping.state).toBe('live');
    mapping.remapPages({ offset: 0, length: PAGE, objectOffset: 16 * PAGE });
    expect(thrownBy(() => mapping.read8(0))).toMatchObject(PAST_END);
  });

  test('once it has grown is mapped as any other', () => {
    appendFileSync(path, Buffer.alloc(PAGE + 1, 7));
    const mapping = object.map();
    expect([mapping.length, mapping.read8(PAGE)]).toEqual([PAGE + 1, 7]);
    expect(thrownBy(() => object.map({ offset: 2 * PAGE }))).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      message: `The value of "options.offset" is out of range. It must be < ${PAGE + 1}, the size of ${path}. Received ${2 * PAGE}`,
    });
  });
});

describe('a character device', () => {
  let object: MemoryObject;
  beforeEach(() => (object = MemoryObject.openFile('/dev/zero', { writable: true })));
  afterEach(() => object.close());

  test('has no size, and needs a length to be mapped', () => {
    expectLengthNeeded(object, 'which has no size');
    const fd = openSync('/dev/zero', 'r');
    const ofDescriptor = MemoryObject.fromFd(fd);
    closeSync(fd);
    expectLengthNeeded(ofDescriptor, 'which has no size');
    expect([object.size, inspect(object)]).toEqual([0, 'MemoryObject </dev/zero not owned live>']);
    ofDescriptor.close();
  });

  test('mapped with one, nothing is past an end that it has not', async () => {
    const mapping = object.map({ length: 2 * PAGE });
    mapping.write32(PAGE, 7);
    mapping.prefetch();
    mapping.lock();
    mapping.unlock();
    mapping.advise('populate-read');
    mapping.sync();
    mapping.check();
    object.zap();
    object.zap({ offset: PAGE, length: 512 * PAGE });
    expect([[...mapping.residency()], mapping.read32(PAGE)]).toEqual([[1, 1], 7]);
    expect(await rejectionOf(mapping.wait(2 * PAGE, 0))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    object.revokeSync();
    expect(thrownBy(() => mapping.read32(PAGE))).toMatchObject({ code: 'ERR_MAPPING_REVOKED' });
  });

  test('/dev/zero: each mapping is memory of its own, and new zeros after a suspension', async () => {
    const [one, other] = [object.map({ length: PAGE }), object.map({ length: PAGE })];
    one.write8(0, 7);
    expect([one.read8(0), other.read8(0)]).toEqual([7, 0]);
    await object.suspend();
    expect(thrownBy(() => one.read8(0))).toMatchObject({ code: 'ERR_MAPPING_SUSPENDED' });
    await object.resume();
    expect([one.read8(0), other.read8(0)]).toEqual([0, 0]);
  });
});

describe('a block device', () => {
  /** Three pages and a half. */
  const BYTES = 3 * PAGE + 2048;
  const whyNot = whyNoLoopDevice();

  function loopDevice(): string {
    const image = join(temporaryDirectory(), 'image');
    writeFileSync(image, Buffer.alloc(BYTES, 5));
    const device = execFileSync('losetup', ['-f', '--show', image], { encoding: 'utf8' }).trim();
    beforeRemoval(() => execFileSync('losetup', ['-d', device]));
    return device;
  }

  testUnless(whyNot, 'is as large as its capacity, and mapped to its end', () => {
    const object = MemoryObject.openFile(loopDevice(), { writable: true });
    expect([object.size, inspect(object)]).toEqual([BYTES, `MemoryObject <${object.name} ${BYTES} B not owned live>`]);
    const mapping = object.map({ offset: PAGE });
    expect([mapping.length, mapping.read8(BYTES - PAGE - 1)]).toEqual([BYTES - PAGE, 5]);
    mapping.prefetch();
    mapping.check();
    expect(thrownBy(() => object.map({ offset: 4 * PAGE }))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    object.close();
  });

  testUnless(whyNot, 'asking for its size leaves the offset of its descriptor', () => {
    const path = loopDevice();
    const fd = openSync(path, 'r');
    const object = MemoryObject.fromFd(fd);
    expect([object.size, object.map().length]).toEqual([BYTES, BYTES]);
    const first = Buffer.alloc(1);
    expect([readSync(fd, first), first[0]]).toEqual([1, 5]);
    closeSync(fd);
    object.close();
  });

  testUnless(whyNot, 'pages past its end are lost by themselves, as those of a file', () => {
    const object = MemoryObject.openFile(loopDevice());
    const mapping: Mapping = object.map({ length: 6 * PAGE });
    const place = { offset: 4 * PAGE };
    expect(thrownBy(() => mapping.check())).toMatchObject({ ...PAST_END });
    expect(thrownBy(() => mapping.prefetch())).toMatchObject({ ...PAST_END, ...place });
    expect(thrownBy(() => mapping.read8(4 * PAGE))).toMatchObject({ ...PAST_END, ...place });
    expect(mapping.bytes[5 * PAGE]).toBe(0);
    expect([mapping.state, mapping.read8(0), mapping.read8(BYTES - 1)]).toEqual(['live', 5, 5]);
    object.close();
  });
});

describe('a mapping smaller than a word', () => {
  const tooSmall = (bytes: number): object => ({
    code: 'ERR_OUT_OF_RANGE',
    message: expect.stringMatching(`must be in a mapping of at least ${bytes} bytes, not 1\\. Received`),
  });

  test('says so, whatever the offset', async () => {
    const mapping = MemoryObject.create({ size: 1 }).map();
    for (const offset of [0, 1, 8, 4096]) {
      expect(thrownBy(() => mapping.read16(offset))).toMatchObject(tooSmall(2));
      expect(thrownBy(() => mapping.read32(offset))).toMatchObject(tooSmall(4));
      expect(thrownBy(() => mapping.write64(offset, 0n))).toMatchObject(tooSmall(8));
      expect(thrownBy(() => mapping.waitSync(offset, 0))).toMatchObject(tooSmall(4));
      expect(await rejectionOf(mapping.wait(offset, 0))).toMatchObject(tooSmall(4));
      expect(thrownBy(() => mapping.wake(offset))).toMatchObject(tooSmall(4));
    }
    for (const offset of [-1, 0.5, NaN]) expect(thrownBy(() => mapping.read32(offset)).message).toMatch(/an integer|>= 0/);
    expect(thrownBy(() => touch(mapping))).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      message: 'The value of "options.width" is out of range. It must be <= 1, the length of the mapping. Received 8',
    });
    expect(touch(mapping, { width: 1 }).accesses).toBe(1);
    mapping.object.close();
  });
});

test('a simulated device has a size always', () => {
  for (const size of [undefined, 0]) {
    expect(thrownBy(() => new Device({ name: 'none', regions: [{ size: size as number }] })).message).toMatch(
      /regions\[0\]\.size/,
    );
  }
});
