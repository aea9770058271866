const PERCENT = Number(process.env.TEST_ROUNDS ?? 100);

/** Rounds of a storm: `TEST_ROUNDS` percent of them where it is set, as in the native tests. */
export function rounds(plain: number): number {
  return Math.ceil((plain * PERCENT) / 100);
}

/** A limit of time, in ms: longer where storms have more rounds, never shorter. */
export function limitOf(plain: number): number {
  return Math.ceil(plain * Math.max(1, PERCENT / 100));
}

/** One case of so many is taken of a list: fewer of them where storms have fewer rounds, and never more than that. */
export function strideOf(plain: number): number {
  return Math.ceil(plain * Math.max(1, 100 / PERCENT));
}
