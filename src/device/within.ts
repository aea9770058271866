/** The longest that Node's timers can wait, in milliseconds. */
const LONGEST_MS = 0x7fff_ffff;

/** The value; undefined if it takes longer. Where no time is left it is what has settled by the next turn. */
export async function within<T>(milliseconds: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), Math.min(Math.max(milliseconds, 0), LONGEST_MS));
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}
