// What APIs do with the bytes of a mapping, shared and not: prints { [api]: [with shared: true, with shared: false] } as JSON. The names
// are those of docs/how-to/choose-a-buffer.md. An outcome is 'takes', 'absent', ['refuses', message] or ['wrong', what the API saw].
const assert = require('node:assert');
const { Blob, File, isUtf8, transcode } = require('node:buffer');
const { spawnSync } = require('node:child_process');
const crypto = require('node:crypto');
const dgram = require('node:dgram');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const { isBuiltin } = require('node:module');
const net = require('node:net');
const { join } = require('node:path');
const { Readable } = require('node:stream');
const streams = require('node:stream/web');
const { StringDecoder } = require('node:string_decoder');
const { isDeepStrictEqual, promisify } = require('node:util');
const v8 = require('node:v8');
const zlib = require('node:zlib');
const arrow = require('apache-arrow');
const msgpackr = require('msgpackr');
const protobuf = require('protobufjs');
const { MemoryObject } = require('revocable-mmap');

const TEXT = 'hello';
const path = join(process.argv[2], 'file');

// Each use gives the API `bytes`, which hold TEXT unless it has `put` something else there, and answers the text that the API has seen,
// or in lower case what it has written.
const USES = {
  'new Response(bytes)': ({ bytes }) => new Response(bytes).text(),
  'new Request(url, { body: bytes })': ({ bytes }) => new Request('http://localhost/', { method: 'POST', body: bytes }).text(),
  'fetch(url, { body: bytes })': ({ bytes }) => echoed(async (url) => (await fetch(url, { method: 'POST', body: bytes })).text()),
  'new Response(buffer)': async ({ bytes }) => (await new Response(bytes.buffer).text()).replace(/\0+$/, ''),

  "crypto.subtle.digest('SHA-256', bytes)": async ({ bytes }) => hashed(await crypto.subtle.digest('SHA-256', bytes)),
  "crypto.subtle.importKey('raw', bytes, …)": async ({ bytes }) => {
    const key = await crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']);
    return text(await crypto.subtle.exportKey('raw', key));
  },
  'controller.enqueue(bytes) of a byte stream': ({ bytes }) => readAll(streamOf(bytes, 'bytes')),
  'reader.read(bytes) of a byte stream': async ({ bytes }) => {
    const source = streamOf(new TextEncoder().encode('HELLO'), 'bytes');
    const { value } = await source.getReader({ mode: 'byob' }).read(bytes);
    return text(value).toLowerCase();
  },
  CompressionStream: async ({ bytes }) => {
    const { writable, readable } = new streams.CompressionStream('gzip');
    const chunks = await through(writable, readable, bytes);
    return text(zlib.gunzipSync(Buffer.concat(chunks)));
  },
  'v8.serialize(buffer)': ({ bytes }) => text(v8.deserialize(v8.serialize(bytes.buffer))).slice(0, TEXT.length),
  'Atomics.wait(words, …)': ({ bytes }) => {
    const words = new Int32Array(bytes.buffer, 0, 1);
    return Atomics.wait(words, 0, ~words[0], 0) === 'not-equal' ? TEXT : '';
  },
  'Atomics.waitAsync(words, …)': ({ bytes }) => {
    const words = new Int32Array(bytes.buffer, 0, 1);
    return Atomics.waitAsync(words, 0, ~words[0], 0).value === 'not-equal' ? TEXT : '';
  },

  'fs.writeSync(fd, bytes)': ({ bytes }) => written((fd) => fs.writeSync(fd, bytes)),
  'fs.write(fd, bytes, …)': ({ bytes }) => written((fd) => promisify(fs.write)(fd, bytes)),
  'fs.writevSync(fd, [bytes])': ({ bytes }) => written((fd) => fs.writevSync(fd, [bytes])),
  'fs.readSync(fd, bytes)': ({ bytes }) => filled(bytes, (fd) => fs.readSync(fd, bytes)),
  'fs.writeFileSync(path, bytes)': ({ bytes }) => written(() => fs.writeFileSync(path, bytes)),
  'fs.promises.writeFile(path, bytes)': ({ bytes }) => written(() => fs.promises.writeFile(path, bytes)),
  'FileHandle read(bytes)': ({ bytes }) =>
    filled(bytes, () => withHandle('r', (handle) => handle.read(bytes, 0, bytes.length, 0))),
  'FileHandle write(bytes)': ({ bytes }) => written(() => withHandle('w', (handle) => handle.write(bytes))),
  'fs.createWriteStream(path) .end(bytes)': ({ bytes }) => written(() => once(fs.createWriteStream(path).end(bytes), 'close')),

  'zlib.gzipSync(bytes)': ({ bytes }) => text(zlib.gunzipSync(zlib.gzipSync(bytes))),
  'zlib.gzip(bytes, …)': async ({ bytes }) => text(zlib.gunzipSync(await promisify(zlib.gzip)(bytes))),
  'zlib.gunzipSync(bytes)': ({ put }) => text(zlib.gunzipSync(put(zlib.gzipSync(TEXT)))),
  'zlib.brotliCompressSync(bytes)': ({ bytes }) => text(zlib.brotliDecompressSync(zlib.brotliCompressSync(bytes))),
  'zlib.createGzip() .end(bytes)': async ({ bytes }) => text(zlib.gunzipSync(await joined(zlib.createGzip().end(bytes)))),
  'zlib.crc32(bytes)': ({ bytes }) => (zlib.crc32(bytes) === zlib.crc32(TEXT) ? TEXT : ''),

  'Buffer.from(bytes), a copy': ({ bytes }) => text(Buffer.from(bytes)),
  'Buffer.from(buffer, offset, length), a view': ({ bytes }) =>
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(),
  'Buffer.concat([bytes])': ({ bytes }) => text(Buffer.concat([bytes])),
  'Buffer.compare(bytes, …)': ({ bytes }) => (Buffer.compare(bytes, Buffer.from(TEXT)) === 0 ? TEXT : ''),
  'buffer.isUtf8(bytes)': ({ bytes, put }) => (isUtf8(bytes) && !isUtf8(put([0xff])) ? TEXT : ''),
  'buffer.transcode(bytes, …)': ({ bytes }) => transcode(bytes, 'latin1', 'utf8').toString(),
  'new Blob([bytes])': ({ bytes }) => new Blob([bytes]).text(),
  'new File([bytes], name)': ({ bytes }) => new File([bytes], 'name').text(),

  'TextDecoder decode(bytes)': ({ bytes }) => new TextDecoder().decode(bytes),
  'TextDecoder decode(bytes, { stream: true })': ({ bytes }) => new TextDecoder().decode(bytes, { stream: true }),
  "new TextDecoder('utf-8', { fatal: true })": ({ bytes }) => new TextDecoder('utf-8', { fatal: true }).decode(bytes),
  "new TextDecoder('latin1')": ({ bytes }) => new TextDecoder('latin1').decode(bytes),
  'TextEncoder encodeInto(text, bytes)': ({ bytes }) => {
    new TextEncoder().encodeInto('HELLO', bytes);
    return text(bytes).toLowerCase();
  },
  'StringDecoder write(bytes)': ({ bytes }) => new StringDecoder('utf8').write(bytes),
  TextDecoderStream: async ({ bytes }) => {
    const { writable, readable } = new streams.TextDecoderStream();
    return (await through(writable, readable, bytes)).join('');
  },
  'ReadableStream without type': ({ bytes }) => readAll(streamOf(bytes)),

  'crypto.createHash(…) .update(bytes)': ({ bytes }) => hashed(crypto.createHash('sha256').update(bytes).digest()),
  "crypto.hash('sha256', bytes)": ({ bytes }) => hashed(crypto.hash('sha256', bytes, 'buffer')),
  "crypto.createHmac('sha256', bytes)": ({ bytes }) => {
    const hmac = (key) => crypto.createHmac('sha256', key).update('data').digest('hex');
    return hmac(bytes) === hmac(TEXT) ? TEXT : '';
  },
  'crypto.createCipheriv(…) .update(bytes)': ({ bytes }) => {
    const key = Buffer.alloc(16);
    const secret = crypto.createCipheriv('aes-128-ctr', key, key).update(bytes);
    return text(crypto.createDecipheriv('aes-128-ctr', key, key).update(secret));
  },
  'crypto.timingSafeEqual(bytes, …)': ({ bytes }) => (crypto.timingSafeEqual(bytes, Buffer.from(TEXT)) ? TEXT : ''),
  'crypto.createSecretKey(bytes)': ({ bytes }) => text(crypto.createSecretKey(bytes).export()),
  'crypto.scryptSync(bytes, …)': ({ bytes }) =>
    crypto.scryptSync(bytes, 'salt', 16).equals(crypto.scryptSync(TEXT, 'salt', 16)) ? TEXT : '',
  'crypto.randomFillSync(bytes)': ({ put }) => randomised(put, (bytes) => crypto.randomFillSync(bytes)),
  'crypto.randomFill(bytes, …)': ({ put }) => randomised(put, (bytes) => promisify(crypto.randomFill)(bytes)),
  'crypto.getRandomValues(bytes)': ({ put }) => randomised(put, (bytes) => crypto.webcrypto.getRandomValues(bytes)),

  'socket.end(bytes)': async ({ bytes }) => {
    const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'connection');
    const socket = net.connect(server.address().port, '127.0.0.1');
    const [received] = await accepted;
    try {
      socket.end(bytes);
      return text(await joined(received));
    } finally {
      socket.destroy();
      received.destroy();
      server.close();
    }
  },
  'http.request(…) .end(bytes)': ({ bytes }) =>
    echoed(async (url) => {
      const request = http.request(url, { method: 'POST', agent: false }).end(bytes);
      const [response] = await once(request, 'response');
      return text(await joined(response));
    }),
  'dgram send(bytes, …)': async ({ bytes }) => {
    const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
    try {
      await once(socket, 'listening');
      const received = once(socket, 'message');
      socket.send(bytes, socket.address().port, '127.0.0.1');
      return text((await received)[0]);
    } finally {
      socket.close();
    }
  },
  'child_process.spawnSync(…, { input: bytes })': ({ bytes }) => text(spawnSync('cat', { input: bytes }).stdout),
  'stream.Readable push(bytes)': async ({ bytes }) => {
    const readable = new Readable({ read() {} });
    readable.push(bytes);
    readable.push(null);
    return text(await joined(readable));
  },

  'v8.serialize(bytes)': ({ bytes }) => text(v8.deserialize(v8.serialize(bytes))),
  'v8.deserialize(bytes)': ({ put }) => v8.deserialize(put(v8.serialize(TEXT))),
  'structuredClone(bytes)': ({ bytes }) => {
    const clone = structuredClone(bytes);
    const before = text(clone);
    bytes[0] = 0;
    assert.strictEqual(clone[0] === 0, bytes.buffer instanceof SharedArrayBuffer); // the same memory, or a copy
    return before;
  },
  'WebAssembly.validate(bytes)': ({ bytes, put }) =>
    !WebAssembly.validate(bytes) && WebAssembly.validate(put(WASM)) ? TEXT : '',
  'WebAssembly.compile(bytes)': async ({ put }) =>
    (await WebAssembly.compile(put(WASM))) instanceof WebAssembly.Module ? TEXT : '',
  'util.isDeepStrictEqual(bytes, …)': ({ bytes }) => (isDeepStrictEqual(bytes, new TextEncoder().encode(TEXT)) ? TEXT : ''),
  'node:sqlite, a parameter': ({ bytes }) => {
    const { DatabaseSync } = require('node:sqlite');
    return text(new DatabaseSync(':memory:').prepare('select ? as bytes').get(bytes).bytes);
  },

  'apache-arrow tableFromIPC(bytes)': ({ put }) => {
    const bytes = put(arrow.tableToIPC(arrow.tableFromArrays({ column: Int32Array.from(Buffer.from(TEXT)) })));
    const column = arrow.tableFromIPC(bytes).getChild('column');
    assert.strictEqual(column.data[0].values.buffer, bytes.buffer); // in place
    return String.fromCharCode(...column);
  },
  'apache-arrow makeVector(bytes)': ({ bytes }) => {
    const vector = arrow.makeVector(bytes);
    assert.strictEqual(vector.data[0].values.buffer, bytes.buffer);
    return String.fromCharCode(...vector);
  },
  'protobufjs decode(bytes)': ({ put }) => {
    const bytes = put(MESSAGE.encode({ data: Buffer.from(TEXT), name: 'né' }).finish());
    const { data, name } = MESSAGE.decode(bytes);
    assert.strictEqual(data.buffer, bytes.buffer);
    return name === 'né' ? text(data) : name;
  },
  'protobufjs encode, a field': ({ bytes }) => text(MESSAGE.decode(MESSAGE.encode({ data: bytes }).finish()).data),
  'msgpackr unpack(bytes)': ({ put }) => {
    const bytes = put(msgpackr.pack({ data: Buffer.from(TEXT), name: 'a name that is longer than short ones', value: 1.5 }));
    const { data, name, value } = msgpackr.unpack(bytes);
    assert.strictEqual(data.buffer, bytes.buffer);
    return name.startsWith('a name') && value === 1.5 ? text(data) : name;
  },
  'msgpackr pack(bytes)': ({ bytes }) => text(msgpackr.unpack(msgpackr.pack(bytes))),
};

const WASM = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const MESSAGE = protobuf.parse('syntax = "proto3"; message M { bytes data = 1; string name = 2; }').root.lookupType('M');
const MODULES = { 'node:sqlite, a parameter': 'node:sqlite' };

function text(bytes) {
  return ArrayBuffer.isView(bytes)
    ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
    : Buffer.from(bytes).toString('latin1');
}

function hashed(digest) {
  return Buffer.from(digest).equals(crypto.createHash('sha256').update(TEXT).digest()) ? TEXT : '';
}

async function joined(readable) {
  const chunks = [];
  for await (const chunk of readable) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function streamOf(chunk, type) {
  return new streams.ReadableStream({
    ...(type === undefined ? {} : { type }),
    start(controller) {
      controller.enqueue(chunk);
      controller.close();
    },
  });
}

async function readAll(readable) {
  const chunks = [];
  for await (const chunk of readable) chunks.push(text(chunk));
  return chunks.join('');
}

/** The chunks that come out of a transform stream. */
async function through(writable, readable, bytes) {
  const writer = writable.getWriter();
  const chunks = [];
  const reading = (async () => {
    for await (const chunk of readable) chunks.push(chunk);
  })();
  const [result] = await Promise.allSettled([writer.write(bytes).then(() => writer.close()), reading]);
  if (result.status === 'rejected') throw result.reason;
  await reading;
  return chunks;
}

async function written(write) {
  const fd = fs.openSync(path, 'w');
  try {
    await write(fd);
    return fs.readFileSync(path, 'latin1');
  } finally {
    fs.closeSync(fd);
  }
}

async function filled(bytes, read) {
  fs.writeFileSync(path, 'HELLO');
  const fd = fs.openSync(path, 'r');
  try {
    await read(fd);
    return text(bytes).toLowerCase();
  } finally {
    fs.closeSync(fd);
  }
}

async function withHandle(mode, use) {
  const handle = await fs.promises.open(path, mode);
  try {
    await use(handle);
  } finally {
    await handle.close();
  }
}

/** Thirty-two bytes that stay zeros have not been filled. */
async function randomised(put, fill) {
  const bytes = put(new Uint8Array(32));
  await fill(bytes);
  return bytes.some((byte) => byte !== 0) ? TEXT : '';
}

/** With a server that answers what it is sent. */
async function echoed(use) {
  const server = http.createServer(async (request, response) => response.end(await joined(request)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    return await use(`http://127.0.0.1:${server.address().port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

async function outcome(api, shared) {
  if (MODULES[api] !== undefined && !isBuiltin(MODULES[api])) return 'absent';
  const { bytes: all } = MemoryObject.create({ size: 4096 }).map({ shared });
  const put = (content) => {
    all.fill(0);
    all.set(content);
    return all.subarray(0, content.length);
  };
  let seen;
  try {
    seen = await USES[api]({ put, bytes: put(Buffer.from(TEXT)) });
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    return ['refuses', error.message];
  }
  return seen === TEXT ? 'takes' : ['wrong', seen];
}

async function main() {
  const outcomes = {};
  for (const api of Object.keys(USES)) outcomes[api] = [await outcome(api, true), await outcome(api, false)];
  console.log(JSON.stringify(outcomes));
}
void main();
