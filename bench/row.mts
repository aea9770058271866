/** What a benchmark is: a subject and a baseline that do the same work, and the ratio between them that must be reached. */

/** One side of a comparison. */
export interface Side {
  /** Does the work once (or many times) and says how long one unit of it took, in the row's unit. Nothing else is timed. */
  sample(): number | Promise<number>;
  close?(): void | Promise<void>;
}

/** The two sides at one size. */
export interface Case {
  label: string;
  /** What grows from case to case, where the row shows how the cost grows. */
  size?: number;
  subject(): Side | Promise<Side>;
  baseline(): Side | Promise<Side>;
  /** Where it differs from the row's. */
  target?: Target;
}

/** A bound on subject ÷ baseline. */
export type Target = { atMost: number } | { atLeast: number };

export interface Row {
  /** What `--only` names. */
  id: string;
  title: string;
  /** Of the samples. */
  unit: string;
  baselineName: string;
  target?: Target;
  /** `--quick` runs the first case only, unless the row says how many. */
  quickCases?: number;
  cases: Case[];
}
