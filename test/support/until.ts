/** Waiting for conditions, with limits that fail loudly. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves when `condition()` is true; rejects after `limit` milliseconds. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, limit = 30_000): Promise<void> {
  const end = Date.now() + limit;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited ${limit} ms in vain until ${what}`);
    await sleep(5);
  }
}

/** What `promise` gives; rejects when that takes longer: a wake-up that is lost shows then, and not when the test's own time is up. */
export async function within<T>(what: string, promise: Promise<T>, limit = 10_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${limit} ms in vain until ${what}`)), limit);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** {@link until} within this turn: nothing else happens in this thread meanwhile. */
export function untilWithinTurn(what: string, condition: () => boolean, limit = 30_000): void {
  const end = Date.now() + limit;
  while (!condition()) if (Date.now() > end) throw new Error(`waited ${limit} ms in vain until ${what}`);
}

/** Some turns of this thread's event loop: to vary what comes first. They do not show that nothing more comes; barrier() does. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
