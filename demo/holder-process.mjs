// A process that holds the device's memory through an inherited descriptor: 3 is the ring, 4 the control page.
import { MemoryObject, stats } from 'revocable-mmap';
import { consume, produce } from './ring.mjs';

const [role, holder] = process.argv.slice(2);
const ring = MemoryObject.fromFd(3, { writable: role === 'producer', name: 'ring' }).map();
const control = MemoryObject.fromFd(4, { writable: true, name: 'control' }).map();
console.log('ready');
const seen = (role === 'producer' ? produce : consume)(ring, control, Number(holder));
console.log(
  JSON.stringify({
    count: seen.count,
    torn: seen.torn ?? 0,
    after: seen.after ?? 0,
    code: seen.error?.code,
    at: seen.at === undefined ? undefined : String(seen.at),
    state: ring.state,
    faults: stats().faults.revoked,
  }),
);
