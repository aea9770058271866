const PERCENT = Number(process.env.TEST_ROUNDS ?? 100);

/** Rounds of a storm: `TEST_ROUNDS` percent of them where it is set, as in the native tests. */
export function rounds(plain: number): number {
  return Math.ceil((plain * PERCENT) / 100);
}

/** A limit of time, in ms: longer where storms have more rounds, never shorter. */
export function limitOf(plain: number): number {
  return Math.ceil(plain * Math.max(1, PERCENT / 100));
}

/** Of a list of cases each so manieth is taken: more are left out where storms have fewer rounds, none more where they have more. */
export function strideOf(plain: number): number {
  return Math.ceil(plain * Math.max(1, 100 / PERCENT));
}
