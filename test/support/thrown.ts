/** What a call throws, for looking at all of it. */

export interface Thrown extends Error {
  code?: string;
  errno?: number;
  syscall?: string;
  path?: string;
  object?: string;
  offset?: number;
  objectOffset?: number;
  address?: bigint;
  bytesTransferred?: number;
}

/** The error `body` throws; fails when it throws none. */
export function thrownBy(body: () => unknown): Thrown {
  let returned: unknown;
  try {
    returned = body();
  } catch (error) {
    return error as Thrown;
  }
  throw new Error(`nothing was thrown; returned ${String(returned)}`);
}

/** The error a promise rejects with; fails when it resolves. */
export async function rejectionOf(promise: Promise<unknown>): Promise<Thrown> {
  let value: unknown;
  try {
    value = await promise;
  } catch (error) {
    return error as Thrown;
  }
  throw new Error(`it was not rejected; resolved with ${String(value)}`);
}
