/** node case_child.mjs ROW INDEX PLAN: measures one case in a process of its own, and sends what it finds to its parent. */
import { measure, type Report } from './harness.mjs';
import { ROWS } from './rows.mjs';

const [id, index, plan] = process.argv.slice(2);
const row = ROWS.find((each) => each.id === id);
const item = row?.cases[Number(index)];
if (row === undefined || item === undefined) throw new Error(`there is no case ${index} of ${id}`);

const send = (report: Report): void => void process.send?.(report);
send({ samples: await measure(row, item, plan as 'quick' | 'whole', (round, rounds) => send({ round, rounds })) });
process.disconnect();
