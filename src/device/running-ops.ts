/** The asynchronous ops of one device that are under way. */
import { within } from './within.js';
import { awaitOp, callingOps, runOp } from './ops-on-stack.js';
import { propertyOf } from './device-errors.js';

/** Something that happens once. The promise is made when it is asked for. */
class Moment {
  #happened = false;
  #promise: Promise<void> | undefined;
  #resolve: (() => void) | undefined;

  get promise(): Promise<void> {
    if (this.#happened) return Promise.resolve();
    return (this.#promise ??= new Promise((resolve) => (this.#resolve = resolve)));
  }

  happen(): void {
    this.#happened = true;
    this.#resolve?.();
  }
}

/** An op that has been called and has not settled. */
export class RunningOp {
  // Made when it is asked for: most ops answer before that, and these cost more than the rest of a call.
  #controller: AbortController | undefined;
  #aborted: { reason: unknown } | undefined;
  #settled: Moment | undefined;
  #removes: Moment | undefined;
  #waits: Moment | undefined;
  #waitsFor = 0;
  #ended = false;

  constructor(
    readonly name: string,
    /** The region that the op was asked about; -1 where it was asked about none. */
    readonly region: number,
    /** The request that it answers; 0 where there is none. */
    readonly token: number,
  ) {}

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted.reason);
    }
    return this.#controller.signal;
  }

  /** Resolves when it has settled, or has been abandoned. */
  get settled(): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return (this.#settled ??= new Moment()).promise;
  }

  /** Resolves when it has called for the removal of its device, which then does not wait for it. */
  get removes(): Promise<void> {
    return (this.#removes ??= new Moment()).promise;
  }

  /** Resolves when it waits for other ops of its device. */
  get waits(): Promise<void> {
    return (this.#waits ??= new Moment()).promise;
  }

  abort(reason: unknown): void {
    this.#aborted ??= { reason };
    this.#controller?.abort(reason);
  }

  /** True if it failed with no more than its signal's reason: it was aborted, and has obeyed. */
  hasObeyed(error: unknown): boolean {
    if (this.#aborted === undefined) return false;
    if (error === this.#aborted.reason) return true;
    return typeof error === 'object' && error !== null && propertyOf(error, 'name') === 'AbortError';
  }

  beginToRemove(): void {
    (this.#removes ??= new Moment()).happen();
  }

  beginToWait(): void {
    ++this.#waitsFor;
    (this.#waits ??= new Moment()).happen();
  }

  endToWait(): void {
    if (--this.#waitsFor === 0) this.#waits = undefined;
  }

  end(): void {
    this.#ended = true;
    this.#settled?.happen();
  }
}

export function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  if (typeof value !== 'function' && (typeof value !== 'object' || value === null)) return false;
  return typeof (value as PromiseLike<T>).then === 'function';
}

/** Ops that call the library now. */
export type Callers = ReadonlySet<RunningOp>;

const NO_CALLERS: Callers = new Set();

export class RunningOps {
  readonly #running = new Set<RunningOp>();
  #abandoned = 0;

  /** Number of ops that have run out of time: they are not waited for any more. */
  get abandoned(): number {
    return this.#abandoned;
  }

  /** The ops that the running code belongs to. To be asked before the first `await` of what they call. */
  callers(): Callers {
    if (this.#running.size === 0) return NO_CALLERS;
    const callers = callingOps();
    for (const op of callers) if (!this.#running.has(op)) callers.delete(op);
    return callers;
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
      const answer = runOp(op, call, argument as A);
      waits = isThenable(answer);
      return answer;
    } finally {
      if (!waits) this.#end(op);
    }
  }

  /** The promise that {@link start} has answered: the op runs until it has settled. */
  async settle<T>(op: RunningOp, answer: PromiseLike<T>): Promise<T> {
    try {
      return await awaitOp(op, answer);
    } finally {
      this.#end(op);
    }
  }

  #end(op: RunningOp): void {
    this.#running.delete(op);
    op.end();
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

  /** The device is being removed for these, too: {@link drainOthers} does not wait for them. */
  remove(callers: Callers): void {
    for (const op of callers) op.beginToRemove();
  }

  /** Waits until no op runs but those that have called for the removal. The rest is abandoned at `end`, of performance.now(). */
  async drainOthers(end: number): Promise<void> {
    return this.#drain([...this.#running], end, (op) => Promise.race([op.settled, op.removes]));
  }

  /** Waits until no op runs. The rest is abandoned at `end`. */
  async drain(end: number): Promise<void> {
    return this.#drain([...this.#running], end, (op) => op.settled);
  }

  /**
   * Waits for the ops that were asked about the region, but those that call; abandons them at `end`. A calling op does not wait for ops
   * that wait, perhaps for it.
   */
  async drainRegion(region: number, callers: Callers, end: number): Promise<void> {
    const others = [...this.#running].filter((op) => op.region === region && !callers.has(op));
    for (const op of callers) op.beginToWait();
    const over = (op: RunningOp): Promise<void> => Promise.race([op.settled, op.waits, op.removes]);
    await this.#drain(others, end, callers.size === 0 ? (op) => op.settled : over);
    for (const op of callers) op.endToWait();
  }

  async #drain(ops: RunningOp[], end: number, over: (op: RunningOp) => Promise<void>): Promise<void> {
    if (ops.length === 0) return;
    const left = new Set(ops);
    const all = Promise.all(ops.map((op) => over(op).then(() => left.delete(op))));
    await within(end - performance.now(), all);
    for (const op of left) this.#forget(op);
  }

  #forget(op: RunningOp): void {
    if (!this.#running.delete(op)) return;
    ++this.#abandoned;
    op.end();
  }
}
