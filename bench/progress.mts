/** How far a run is, on standard error: on a terminal a line that changes, elsewhere a line for each case. */
import type { RunOptions } from './harness.mjs';
import type { Case } from './row.mjs';

/** Stream that progress is written to. */
interface Output {
  isTTY?: boolean;
  write(text: string): unknown;
}

export interface Progress extends Pick<RunOptions, 'begin' | 'progress'> {
  /** The line is free for what comes next. */
  end(): void;
}

export function progressOf(cases: number, output: Output = process.stderr): Progress {
  const isTerminal = output.isTTY === true;
  let begun = 0;
  let current: Case | undefined;
  return {
    begin(row, item) {
      const isAgain = item === current;
      if (!isAgain) begun++;
      current = item;
      if (!isTerminal) output.write(`case ${begun} of ${cases}: ${row.id}: ${item.label}${isAgain ? ', again' : ''}\n`);
    },
    progress(row, { label }, round, rounds) {
      if (isTerminal) output.write(`\r\x1b[Kcase ${begun} of ${cases}: ${row.id}: ${label}, sample ${round + 1} of ${rounds}`);
    },
    end() {
      if (isTerminal) output.write('\r\x1b[K');
    },
  };
}
