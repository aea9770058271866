/** node case_child.mjs ORDER: measures one case in a process of its own, and sends what it finds to its parent. ORDER is JSON. */
import { MemoryObject } from 'revocable-mmap';
import { pinThread, threadProcessors } from 'revocable-mmap/bench';
import { measure, type Order, type Report } from './harness.mjs';
import { ROWS } from './rows.mjs';

const order = JSON.parse(process.argv[2]) as Order;
const row = ROWS.find(({ id }) => id === order.row);
const item = row?.cases[order.case];
if (item === undefined) throw new Error(`there is no case ${order.case} of ${order.row}`);

if (row?.oneProcessor === true) {
  MemoryObject.create({ size: 4096 }).close(); // so that the library's own thread is there already, and may run anywhere
  const processors = threadProcessors();
  pinThread(processors[process.pid % processors.length]); // C programs that are started from here inherit it
}

const send = (report: Report): void => void process.send?.(report);
send({ samples: await measure(item, order.plan, order.target, (round, rounds) => send({ round, rounds })) });
process.disconnect();
