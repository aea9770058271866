// A process that uses a device which another one serves, until it is gone: node share-user.mjs SOCKET memory|register
import { connect } from 'revocable-mmap/share';

const [path, role] = process.argv.slice(2);
const device = await connect(path);
const mapping = device.open().map({ region: role === 'memory' ? 'frames' : 'control' });
console.log('ready');
let count = 0;
let wrong = 0;
let last = 0;
try {
  for (; ; count++) {
    // Memory has what the device's process has written; the register counts.
    const value = mapping.read32(0);
    if (role === 'memory' ? value !== 0xfeed : value <= last) wrong++;
    last = value;
  }
} catch (error) {
  const at = String(process.hrtime.bigint());
  console.log(JSON.stringify({ count, wrong, code: error.code, cause: error.cause?.code, state: mapping.state, at }));
}
