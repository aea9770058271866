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
  size?: number | undefined;
  subject(): Side | Promise<Side>;
  baseline(): Side | Promise<Side>;
  /** Where it differs from the row's. */
  target?: Target | undefined;
  /** Why it cannot be measured here: it is listed with that, and neither side is made. */
  readonly unavailable?: string;
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
  /** What the cases' sizes count, for the axis of a plot. Of one that ends in "bytes" the ticks are KiB, MiB and GiB. */
  sizeName?: string;
  target?: Target;
  /**
   * Whether both sides run on one processor, the same: of two one is often slower, for seconds, as something else uses its core. Not
   * of sides with several threads that run at a time.
   */
  oneProcessor?: boolean;
  /** `--quick` runs the first case only, unless the row says how many. */
  quickCases?: number;
  /** Whether a run that names no rows has this one; without it, every run has. */
  byDefault?(quick: boolean): boolean;
  cases: Case[];
}
