// Uses the library, then waits for what another process sends.
const { MemoryObject } = require('revocable-mmap');
const { say, hear } = require('./conversation.cjs');

const memory = MemoryObject.create({ size: 4096 });
const mapping = memory.map();
memory.revokeSync();
say(mapping.bytes[0] === 0 ? 'revoked, touched, waiting' : 'no fill');
hear();
