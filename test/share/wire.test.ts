import fc from 'fast-check';
import { MessageReader } from '../../src/share/message-reader.js';
import { decodeVersion, encodeVersion, type Version } from '../../src/share/version.js';
import { decodePageFault, encodePageFault } from '../../src/share/page-fault.js';
import * as wire from '../../src/share/wire.js';
import { rounds } from '../support/rounds.js';

const seed = Number(process.env.TEST_SEED ?? (Math.random() * 0x7fffffff) | 0);
const check = (runs: number, property: fc.IProperty<unknown[]>): void => {
  fc.assert(property as fc.IProperty<unknown>, { seed, numRuns: rounds(runs), verbose: 0 });
};

const zeros = (length: number): number[] => Array.from({ length }, () => 0);
const u32 = fc.nat(0xffff_ffff);
const offset = fc.oneof(fc.nat(0x1_0000), fc.maxSafeNat());
const small = fc.nat(64);
const bytes = (most: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: 1, maxLength: most });

const access = fc
  .record({ region: u32, offset, data: bytes(5000) })
  .map((each): wire.RegionAccess => ({ ...each, count: each.data.byteLength }));
const shortAccess = fc
  .record({ region: u32, offset, data: bytes(8) })
  .map((each): wire.RegionAccess => ({ ...each, count: each.data.byteLength }));

const transfer = fc
  .record({ address: offset, data: bytes(5000) })
  .map((each): wire.DmaTransfer => ({ ...each, count: each.data.byteLength }));

const isCountable = ({ offset: at, size }: wire.Area): boolean => Number.isSafeInteger(at + size);
const pageSize = fc.integer({ min: 12, max: 30 }).map((bits) => 2 ** bits);
const logged = fc.record({ offset, size: fc.integer({ min: 1, max: 2 ** 40 }) }).filter(isCountable);

const irqSet = fc
  .record({
    index: u32,
    start: u32,
    data: fc.constantFrom('none' as const, 'bool' as const, 'eventfd' as const),
    action: fc.constantFrom('mask' as const, 'unmask' as const, 'trigger' as const),
    chosen: fc.uint8Array({ maxLength: 40 }),
  })
  .map((set): wire.IrqSet =>
    set.data === 'bool' ? { ...set, count: set.chosen.byteLength } : { ...set, count: 3, chosen: new Uint8Array(0) },
  );

const own = fc.record(
  {
    thread: fc.string({ maxLength: 20 }).filter((text) => !text.includes('\0')),
    survives: fc.boolean(),
    asksForPages: fc.boolean(),
    supplied: fc.array(fc.constantFrom(0, 1, 2), { maxLength: 6 }),
    serves: fc.constantFrom('memory' as const, 'device' as const),
    name: fc.string({ maxLength: 50 }).filter((text) => !text.includes('\0')),
    regions: fc.array(
      fc.string({ maxLength: 20 }).filter((text) => !text.includes('\0')),
      { maxLength: 6 },
    ),
  },
  { requiredKeys: ['thread'] },
);
const version = fc.record({
  major: fc.nat(0xffff),
  minor: fc.nat(0xffff),
  maxDescriptors: fc.maxSafeNat(),
  maxData: fc.maxSafeNat(),
  writeMultiple: fc.boolean(),
  own: fc.option(own, { nil: undefined }),
}) as fc.Arbitrary<Version>;

/** Each struct of the protocol: how it is encoded and decoded, and values of it. */
const STRUCTS: Record<
  string,
  { value: fc.Arbitrary<unknown>; encode: (value: never) => Uint8Array; decode: (body: Uint8Array) => unknown }
> = {
  version: { value: version, encode: encodeVersion, decode: decodeVersion },
  deviceInfo: {
    value: fc.record({ flags: u32, regions: u32, irqs: u32 }),
    encode: wire.encodeDeviceInfo,
    decode: wire.decodeDeviceInfo,
  },
  regionInfo: {
    value: fc
      .record({
        index: u32,
        flags: u32,
        size: offset,
        offset,
        areas: fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 1e9 })), { maxLength: 4 }),
      })
      .map(({ areas, flags, size, ...info }): wire.RegionInfo => {
        const found = areas.map(([at, length]) => ({ offset: at, size: length }));
        const caps = found.length > 0 ? wire.REGION_FLAGS.caps : 0;
        const whole = found.length > 0 ? Math.max(size, 2 ** 33) : size;
        return {
          ...info,
          size: whole,
          flags: (flags & ~wire.REGION_FLAGS.caps) | caps,
          areas: found,
          argsz: wire.regionInfoBytes(found),
        };
      })
      .map((info) => ({ ...info, flags: info.flags >>> 0 })),
    encode: wire.encodeRegionInfo,
    decode: wire.decodeRegionInfo,
  },
  irqInfo: { value: fc.record({ index: u32, flags: u32, count: u32 }), encode: wire.encodeIrqInfo, decode: wire.decodeIrqInfo },
  setIrqs: { value: irqSet, encode: wire.encodeIrqSet, decode: wire.decodeIrqSet },
  dmaMap: {
    value: fc
      .record({ offset, address: offset, size: fc.integer({ min: 1, max: 2 ** 40 }), readable: fc.boolean(), mmap: fc.boolean() })
      .filter(({ offset: at, address, size }) => Number.isSafeInteger(at + size) && Number.isSafeInteger(address + size))
      .map((map): wire.DmaMap => ({ ...map, writable: true })),
    encode: wire.encodeDmaMap,
    decode: wire.decodeDmaMap,
  },
  dmaUnmap: {
    value: fc.oneof(
      fc.record({ address: offset, size: offset, all: fc.constant(false) }),
      fc.constant({ address: 0, size: 0, all: true }),
    ),
    encode: wire.encodeDmaUnmap,
    decode: wire.decodeDmaUnmap,
  },
  deviceFeature: {
    value: fc
      .record({ feature: fc.nat(0xffff), methods: fc.constantFrom(0x1_0000, 0x2_0000, 0x4_0000, 0x7_0000), data: bytes(100) })
      .map((each): wire.FeatureRequest => ({ ...each, argsz: 8 + each.data.byteLength })),
    encode: wire.encodeFeature,
    decode: wire.decodeFeature,
  },
  'deviceFeature: start of a log': {
    value: fc.record({ pageSize, ranges: fc.array(logged, { maxLength: 20 }) }),
    encode: wire.encodeLogStart,
    decode: wire.decodeLogStart,
  },
  'deviceFeature: report of a log': {
    value: fc.record({ offset, size: fc.integer({ min: 1, max: 2 ** 30 }), pageSize }).filter(isCountable),
    encode: (report: wire.LogReport) => wire.encodeLogReport(report),
    decode: wire.decodeLogReport,
  },
  pageFault: {
    value: fc.record({
      token: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      offset,
      write: fc.boolean(),
      firstWrite: fc.boolean(),
    }),
    encode: encodePageFault,
    decode: decodePageFault,
  },
  dmaRead: {
    value: transfer.map((each) => ({ ...each, data: new Uint8Array(0) })),
    encode: wire.encodeDmaTransfer,
    decode: wire.decodeDmaRead,
  },
  dmaWrite: { value: transfer, encode: wire.encodeDmaTransfer, decode: wire.decodeDmaData },
  regionRead: {
    value: access.map((each) => ({ ...each, data: new Uint8Array(0) })),
    encode: wire.encodeAccess,
    decode: wire.decodeRegionRead,
  },
  regionWrite: { value: access, encode: wire.encodeAccess, decode: wire.decodeRegionData },
  regionWriteMulti: {
    value: fc.array(shortAccess, { minLength: 1, maxLength: 20 }),
    encode: wire.encodeWrites,
    decode: wire.decodeWrites,
  },
};

const message = fc
  .constantFrom(...Object.keys(STRUCTS))
  .chain((name) => STRUCTS[name].value.map((value) => ({ name, value, body: STRUCTS[name].encode(value as never) })));

const commandOf = (name: string): number => wire.COMMANDS[name.split(':')[0] as 'reset'];

const header = fc.record({ id: fc.nat(0xffff), reply: fc.boolean(), noReply: fc.boolean(), errno: fc.nat(133) });

/** How many bytes a read may bring: up to the end of the message, or of what is ready for it. */
function roomIn({ buffer, have }: MessageReader, rest: Uint8Array): number {
  const known = Buffer.concat([buffer.subarray(0, have), rest.subarray(0, Math.max(0, wire.HEADER_BYTES - have))]);
  const end = known.byteLength < wire.HEADER_BYTES ? wire.HEADER_BYTES : Math.max(wire.HEADER_BYTES, known.readUInt32LE(4));
  return Math.min(end, buffer.byteLength) - have;
}

/** Feeds a stream in pieces, as reads of a socket would bring it: never more than of one message. */
function readIn(
  reader: MessageReader,
  stream: Uint8Array,
  sizes: () => number,
  descriptors: () => number[] = () => [],
): wire.Message[] {
  const found: wire.Message[] = [];
  for (let at = 0; at < stream.byteLength;) {
    const room = roomIn(reader, stream.subarray(at));
    if (room === 0) throw new Error('the reader has no room');
    const piece = stream.subarray(at, at + Math.min(room, Math.max(1, sizes())));
    reader.buffer.set(piece, reader.have);
    const whole = reader.filled(piece.byteLength, descriptors());
    if (whole !== undefined) found.push({ ...whole, body: whole.body.slice() });
    at += piece.byteLength;
  }
  return found;
}

describe(`the vfio-user protocol on the wire (TEST_SEED=${seed})`, () => {
  test('a header has the layout of the specification', () => {
    const bytes = wire.encode({ id: 0x1234, command: 9, reply: true, errno: 22 }, new Uint8Array([1, 2, 3]));
    expect([...bytes]).toEqual([0x34, 0x12, 9, 0, 19, 0, 0, 0, 0x21, 0, 0, 0, 22, 0, 0, 0, 1, 2, 3]);
    expect(wire.decodeHeader(bytes)).toEqual({ id: 0x1234, command: 9, size: 19, reply: true, noReply: false, errno: 22 });
  });

  test.each<[name: string, bytes: Uint8Array, layout: number[]]>([
    ['device info', wire.encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }), [16, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0]],
    ['interrupt info', wire.encodeIrqInfo({ flags: 9, index: 2, count: 8 }), [16, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0]],
    [
      'region info',
      wire.encodeRegionInfo({ index: 1, flags: 7, size: 0x1_0000_1000, offset: 0x2000 }),
      [32, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0],
    ],
    [
      'a region access',
      wire.encodeAccess({ region: 7, offset: 4, count: 2, data: new Uint8Array([0xaa, 0xbb]) }),
      [4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 0xaa, 0xbb],
    ],
    [
      'a feature',
      wire.encodeFeature({ argsz: 9, feature: 7, methods: wire.FEATURE_FLAGS.set, data: new Uint8Array([0xaa]) }),
      [9, 0, 0, 0, 7, 0, 2, 0, 0xaa],
    ],
    [
      'the start of a log',
      wire.encodeLogStart({ pageSize: 4096, ranges: [{ offset: 0x2000, size: 0x1000 }] }),
      [0, 0x10, ...zeros(6), 1, ...zeros(7), 0, 0x20, ...zeros(6), 0, 0x10, ...zeros(6)],
    ],
    [
      'the report of a log',
      wire.encodeLogReport({ offset: 0x2000, size: 0x3000, pageSize: 4096 }, new Uint8Array([5])),
      [0, 0x20, ...zeros(6), 0, 0x30, ...zeros(6), 0, 0x10, ...zeros(6), 5],
    ],
    [
      'an interrupt set',
      wire.encodeIrqSet({ index: 2, start: 1, count: 2, data: 'eventfd', action: 'trigger', chosen: new Uint8Array(0) }),
      [20, 0, 0, 0, 0x24, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0],
    ],
  ])('%s has the layout of the specification', (_, bytes, layout) => {
    expect([...bytes]).toEqual(layout);
  });

  test.each(Object.keys(STRUCTS))('%s is decoded to what was encoded', (name) => {
    const { value, encode, decode } = STRUCTS[name];
    check(
      500,
      fc.property(value, (each) => {
        expect(decode(encode(each as never))).toEqual(each);
      }),
    );
  });

  test('messages come out of a stream as they went in, however it is cut', () => {
    const streams = fc.tuple(
      fc.array(fc.tuple(header, message), { minLength: 1, maxLength: 6 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 3000 })),
    );
    check(
      2000,
      fc.property(streams, ([messages, sizes]) => {
        const reader = new MessageReader(8192);
        const stream = Buffer.concat(
          messages.map(([head, { name, body }]) => wire.encode({ ...head, command: commandOf(name) }, body)),
        );
        const found = readIn(reader, stream, () => sizes.next().value as number);
        expect(found.map(({ id, body }) => [id, Buffer.from(body)])).toEqual(
          messages.map(([{ id }, { body }]) => [id, Buffer.from(body)]),
        );
        expect(reader.partial).toBe(false);
      }),
    );
  });

  test('a stream is cut at every byte, with descriptors at every cut', () => {
    const body = wire.encodeAccess({ region: 0, offset: 0, count: 40, data: new Uint8Array(40).fill(7) });
    const one = wire.encode({ id: 1, command: wire.COMMANDS.regionWrite }, body);
    const stream = Buffer.concat([one, one]);
    for (let cut = 1; cut < stream.byteLength; cut++) {
      let fd = 0;
      const sizes = [cut, stream.byteLength];
      const found = readIn(
        new MessageReader(8192),
        stream,
        () => sizes.shift() ?? stream.byteLength,
        () => [fd++],
      );
      expect(found).toHaveLength(2);
      // Each descriptor belongs to exactly one message.
      expect(found.flatMap(({ descriptors }) => descriptors)).toEqual(Array.from({ length: fd }, (_, i) => i));
    }
  });

  test('what peers may send is decoded, or refused with a WireError, in bounded memory', () => {
    const damage = fc.array(fc.tuple(fc.nat(5100), fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 0x7f, 0x80))), {
      maxLength: 4,
    });
    const inputs = fc.array(fc.tuple(header, message, damage, fc.integer({ min: -40, max: 40 })), { minLength: 5, maxLength: 5 });
    let decoded = 0;
    let refused = 0;
    Error.stackTraceLimit = 0; // most of the time went into stacks
    check(
      20_000,
      fc.property(inputs, small, (messages, fds) => {
        for (const [head, { name, body }, changes, longer] of messages) {
          const cut =
            longer < 0 ? body.subarray(0, Math.max(0, body.byteLength + longer)) : Buffer.concat([body, Buffer.alloc(longer)]);
          const input = wire.encode({ ...head, command: commandOf(name) }, cut);
          for (const [at, byte] of changes) input[at % input.byteLength] = byte;
          const reader = new MessageReader(8192);
          try {
            for (const found of readIn(
              reader,
              input,
              () => 100_000,
              () => Array.from({ length: fds }, (_, i) => i),
            ))
              for (const { decode } of Object.values(STRUCTS)) tryDecode(decode, found.body);
            decoded += 1;
          } catch (error) {
            if (!(error instanceof wire.WireError)) throw error;
            refused += 1;
          }
          if (reader.buffer.byteLength > 8192 + wire.HEADER_BYTES || reader.takeDescriptors().length > 128)
            throw new Error('unbounded');
        }
      }),
    );
    Error.stackTraceLimit = 10;
    // Neither is rare: the inputs reach both.
    expect(decoded).toBeGreaterThan(rounds(20_000));
    expect(refused).toBeGreaterThan(rounds(1000));
  });

  test('a message that is announced longer than allowed is refused before any of it has come', () => {
    const reader = new MessageReader(1000);
    const announced = wire.encode({ id: 1, command: 10 });
    wire.viewOf(announced).setUint32(4, 1000 + wire.HEADER_BYTES + 1, true);
    expect(() => readIn(reader, announced, () => 16)).toThrow(wire.WireError);
  });

  test('memory for a message grows with what has come of it', () => {
    const reader = new MessageReader(1 << 20);
    const announced = wire.encode({ id: 1, command: 10 });
    wire.viewOf(announced).setUint32(4, 1 << 20, true);
    readIn(reader, announced, () => 16);
    expect(reader.buffer.byteLength).toBe(wire.HEADER_BYTES + 4096);
  });

  test.each([
    ['no capabilities', '', {}],
    [
      'capabilities of others',
      '{"capabilities":{"max_msg_fds":8,"migration":{"pgsize":4096}},"more":1}\0',
      { maxDescriptors: 8 },
    ],
    ['no object of capabilities', '{}\0', {}],
  ])('a version with %s is understood', (_, text, expected) => {
    const body = Buffer.concat([Buffer.from([0, 0, 1, 0]), Buffer.from(text)]);
    expect(decodeVersion(body)).toEqual({
      major: 0,
      minor: 1,
      maxDescriptors: 1,
      maxData: 1 << 20,
      writeMultiple: false,
      own: undefined,
      ...expected,
    });
  });

  test.each([
    ['without its zero byte', '{}'],
    ['that is no JSON', '{"capabilities":\0'],
    ['that is no object', '[]\0'],
    ['with capabilities that are none', '{"capabilities":[]}\0'],
    ['with a count that is none', '{"capabilities":{"max_msg_fds":-1}}\0'],
    ['longer than allowed', `{"capabilities":{"x":"${'x'.repeat(4096)}"}}\0`],
  ])('a version %s is refused', (_, text) => {
    expect(() => decodeVersion(Buffer.concat([Buffer.alloc(4), Buffer.from(text)]))).toThrow(wire.WireError);
  });
});

function tryDecode(decode: (body: Uint8Array) => unknown, body: Uint8Array): void {
  try {
    decode(body);
  } catch (error) {
    if (!(error instanceof wire.WireError)) throw error;
  }
}
