/** Rounds of a storm: `TEST_ROUNDS` percent of them where it is set, as in the native tests. */
export function rounds(plain: number): number {
  return Math.ceil((plain * Number(process.env.TEST_ROUNDS ?? 100)) / 100);
}
