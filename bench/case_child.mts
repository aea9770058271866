/** node case_child.mjs ORDER: measures one case in a process of its own, and sends what it finds to its parent. ORDER is JSON. */
import { measure, type Order, type Report } from './harness.mjs';
import { ROWS } from './rows.mjs';

const order = JSON.parse(process.argv[2]) as Order;
const item = ROWS.find(({ id }) => id === order.row)?.cases[order.case];
if (item === undefined) throw new Error(`there is no case ${order.case} of ${order.row}`);

const send = (report: Report): void => void process.send?.(report);
send({ samples: await measure(item, order.plan, order.target, (round, rounds) => send({ round, rounds })) });
process.disconnect();
