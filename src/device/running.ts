/** The asynchronous ops of one device that are under way. */
import { AsyncLocalStorage } from 'node:async_hooks';

/** An op that has been called and has not settled. */
export class RunningOp {
  // Made when somebody asks: most ops answer before anybody does, and these cost more than the rest of a call.
  #controller: AbortController | undefined;
  #settled: Promise<void> | undefined;
  #settle: (() => void) | undefined;
  #aborted: { reason: unknown } | undefined;
  #ended = false;
  #waits = false;
  #waiting: Promise<void> | undefined;
  #tellThatItWaits: (() => void) | undefined;

  constructor(
    readonly name: string,
    /** Of the region it was asked about; -1 where it was not. */
    readonly region: number,
    /** Of the request that it answers; 0 where there is none. */
    readonly token: number,
  ) {}

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted.reason);
    }
    return this.#controller.signal;
  }

  get settled(): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return (this.#settled ??= new Promise((resolve) => (this.#settle = resolve)));
  }

  /** Resolves when it has begun to wait for other ops. */
  get waits(): Promise<void> {
    if (this.#waits) return Promise.resolve();
    return (this.#waiting ??= new Promise((resolve) => (this.#tellThatItWaits = resolve)));
  }

  beginToWait(): void {
    this.#waits = true;
    this.#tellThatItWaits?.();
  }

  abort(reason: unknown): void {
    this.#aborted ??= { reason };
    this.#controller?.abort(reason);
  }

  end(): void {
    this.#ended = true;
    this.#settle?.();
  }
}

/** Which op the running code belongs to: one that removes its own device must not be waited for. */
const current = new AsyncLocalStorage<RunningOp>();

export function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  if (typeof value !== 'function' && (typeof value !== 'object' || value === null)) return false;
  return typeof (value as PromiseLike<T>).then === 'function';
}

export class RunningOps {
  readonly #running = new Set<RunningOp>();
  #abandoned = 0;

  /** How many have run out of time: nobody waits for them any more. */
  get abandoned(): number {
    return this.#abandoned;
  }

  /** Calls the op; it counts as running until what it answered has settled. */
  async run<T>(op: RunningOp, call: () => T | Promise<T>): Promise<T> {
    const answer = this.start(op, call);
    return isThenable(answer) ? this.settle(op, answer) : answer;
  }

  /** Calls the op. What it answers at once is its answer, and it runs no longer; a promise is to be given to {@link settle}. */
  start<T, A>(op: RunningOp, call: (argument: A) => T | PromiseLike<T>, argument: A): T | PromiseLike<T>;
  start<T>(op: RunningOp, call: () => T | PromiseLike<T>): T | PromiseLike<T>;
  start<T, A>(op: RunningOp, call: (argument: A) => T | PromiseLike<T>, argument?: A): T | PromiseLike<T> {
    this.#running.add(op);
    let waits = false;
    try {
      const answer = current.run(op, call, argument as A);
      waits = isThenable(answer);
      return answer;
    } finally {
      if (!waits) this.#end(op);
    }
  }

  /** The promise that {@link start} has answered: the op runs until it has settled. */
  async settle<T>(op: RunningOp, answer: PromiseLike<T>): Promise<T> {
    try {
      return await answer;
    } finally {
      this.#end(op);
    }
  }

  #end(op: RunningOp): void {
    this.#running.delete(op);
    op.end();
  }

  /** The op that calls this waits for the end of all the others: nobody waits for it. */
  excuse(): void {
    const own = current.getStore();
    if (own !== undefined && this.#running.delete(own)) own.end();
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
   * Those that are running even then are abandoned. An op that calls this does not wait for those that wait, perhaps for it.
   */
  async drain(milliseconds: number, region?: number): Promise<void> {
    const own = current.getStore();
    const others = [...this.#running].filter((op) => op !== own && (region === undefined || op.region === region));
    if (others.length === 0) return;
    let timer: NodeJS.Timeout | undefined;
    own?.beginToWait();
    const limit = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(true), milliseconds)));
    const ends = others.map((op) => (own === undefined ? op.settled : Promise.race([op.settled, op.waits])));
    const late = await Promise.race([Promise.all(ends).then(() => false), limit]);
    clearTimeout(timer);
    if (late) for (const op of others) if (this.#running.has(op)) this.#forget(op);
  }

  #forget(op: RunningOp): void {
    this.#running.delete(op);
    ++this.#abandoned;
  }
}
