/** The asynchronous ops of one device that are under way. */
import { AsyncLocalStorage } from 'node:async_hooks';

/** An op that has been called and has not settled. */
export class RunningOp {
  readonly #controller = new AbortController();
  readonly settled: Promise<void>;
  #settle!: () => void;

  constructor(
    readonly name: string,
    /** Of the region it was asked about; -1 where it was not. */
    readonly region: number,
    /** Of the request that it answers; 0 where there is none. */
    readonly token: number,
  ) {
    this.settled = new Promise((resolve) => (this.#settle = resolve));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: unknown): void {
    this.#controller.abort(reason);
  }

  end(): void {
    this.#settle();
  }
}

/** Which op the running code belongs to: one that removes its own device must not be waited for. */
const current = new AsyncLocalStorage<RunningOp>();

export class RunningOps {
  readonly #running = new Set<RunningOp>();
  #abandoned = 0;

  /** How many have run out of time: nobody waits for them any more. */
  get abandoned(): number {
    return this.#abandoned;
  }

  /** Calls the op; it counts as running until what it answered has settled. */
  async run<T>(op: RunningOp, call: () => T | Promise<T>): Promise<T> {
    this.#running.add(op);
    try {
      return await current.run(op, call);
    } finally {
      this.#running.delete(op);
      op.end();
    }
  }

  abortAll(reason: unknown): void {
    for (const op of this.#running) op.abort(reason);
  }

  /** The time of the op that was to answer `token` is up. */
  abandon(token: number, reason: unknown): void {
    for (const op of this.#running) {
      if (op.token !== token) continue;
      op.abort(reason);
      this.#forget(op);
    }
  }

  /**
   * Waits for those that run now, but the one that calls this, for at most so many milliseconds. `region`: only those asked about it.
   * Those that are running even then are abandoned.
   */
  async drain(milliseconds: number, region?: number): Promise<void> {
    const own = current.getStore();
    const others = [...this.#running].filter((op) => op !== own && (region === undefined || op.region === region));
    if (others.length === 0) return;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds)));
    await Promise.race([Promise.all(others.map((op) => op.settled)), limit]);
    clearTimeout(timer);
    for (const op of others) if (this.#running.has(op)) this.#forget(op);
  }

  #forget(op: RunningOp): void {
    this.#running.delete(op);
    ++this.#abandoned;
  }
}
