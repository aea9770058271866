/**
 * Which ops the running code belongs to: those whose own code is on the stack, and those that await it.
 *
 * V8 records which function awaits which, for the asynchronous part of stack traces. The answer of an op is awaited by a function with a
 * name of its own, so an op awaits the running code exactly if that name is in its stack trace. Code that merely descends from an op (an
 * event or a timer on a later turn, a promise that the op has started and does not await) has no such name there. An AsyncLocalStorage
 * would follow all of these (docs/decisions/008-the-op-that-removes.md).
 */
import { native } from '../native/load.js';
import type { RunningOp } from './running-ops.js';

/** Awaits the answers of ops, one at a time. */
interface Waiter {
  op: RunningOp | undefined;
  readonly wait: <T>(answer: PromiseLike<T>) => Promise<T>;
}

/** Ops of this thread whose own code is running, outermost first. */
const onStack: RunningOp[] = [];

const waiters = new Map<string, Waiter>();
/** Waiters without an op. They are used again: each new name would cost V8 a hidden class. */
const free: Waiter[] = [];

/** Names differ between copies of this module. */
const copy = native.token();

/** Calls the op's own code. */
export function runOp<T, A>(op: RunningOp, call: (argument: A) => T, argument: A): T {
  onStack.push(op);
  try {
    return call(argument);
  } finally {
    onStack.pop();
  }
}

/** Awaits what the op has answered. */
export async function awaitOp<T>(op: RunningOp, answer: PromiseLike<T>): Promise<T> {
  const waiter = free.pop() ?? newWaiter();
  waiter.op = op;
  try {
    return await waiter.wait(answer);
  } finally {
    waiter.op = undefined;
    free.push(waiter);
  }
}

/** The ops that cannot go on before the running code has returned, and those that await it, perhaps through others. */
export function callingOps(): Set<RunningOp> {
  const ops = new Set(onStack);
  for (const name of functionsOnStack()) {
    const op = waiters.get(name)?.op;
    if (op !== undefined) ops.add(op);
  }
  return ops;
}

function newWaiter(): Waiter {
  const name = `op ${waiters.size} (revocable-mmap ${copy})`;
  const named = {
    async [name]<T>(this: void, answer: PromiseLike<T>): Promise<T> {
      return await answer;
    },
  };
  const waiter = { op: undefined, wait: named[name] };
  waiters.set(name, waiter);
  return waiter;
}

/**
 * Names of the functions that run now, and of those that await them. None where a program has made Error immutable: ops are then
 * recognised by their synchronous code only.
 */
function functionsOnStack(): string[] {
  const limit: unknown = Reflect.get(Error, 'stackTraceLimit');
  const prepare: unknown = Reflect.get(Error, 'prepareStackTrace');
  const trace: { stack?: unknown } = {};
  try {
    Reflect.set(Error, 'stackTraceLimit', Infinity);
    Reflect.set(Error, 'prepareStackTrace', namesOf);
    Error.captureStackTrace(trace);
    const names = trace.stack; // prepared when it is read
    return Array.isArray(names) ? (names as string[]) : [];
  } finally {
    restore('stackTraceLimit', limit);
    restore('prepareStackTrace', prepare);
  }
}

function namesOf(_error: unknown, calls: NodeJS.CallSite[]): string[] {
  return calls.map((call) => call.getFunctionName() ?? '');
}

function restore(name: 'stackTraceLimit' | 'prepareStackTrace', value: unknown): void {
  if (value === undefined) Reflect.deleteProperty(Error, name);
  else Reflect.set(Error, name, value);
}
