/**
 * Calls `body` with a signal that is aborted when it takes longer. What a driver waits for may never come; and the timer keeps the process
 * alive meanwhile, which waiting for a device does not. The signal is aborted in the end in any case: it ends what `body` has begun.
 */
export async function within(milliseconds, what, body) {
  const controller = new AbortController();
  const late = () => controller.abort(new Error(`waited ${milliseconds} ms in vain for ${what}`));
  const timer = setTimeout(late, milliseconds);
  try {
    return await body(controller.signal);
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}

/** A function that calls jobs one after the other, for those who use the same registers. A job that fails holds up none. */
export function oneByOne() {
  let last = Promise.resolve();
  return (job) => {
    const result = last.then(job);
    last = result.catch(() => undefined);
    return result;
  };
}
