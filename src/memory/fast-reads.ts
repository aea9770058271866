/**
 * `read32` as fast as V8 can make it, also after one has failed (docs/decisions/005-checked-accessors.md).
 *
 * Its checks are bounds of arrays, and V8 remembers of a function that one was passed: what it compiles then costs five times as much, for
 * ever. So the method has a prototype object of its own in the chain of Mapping's. A failure takes that out of the chain, so that the
 * slower method below is found; later another one takes its place, whose method is a new function of the same text, of which V8 remembers
 * nothing. Mappings keep their hidden class, and code that calls the method is compiled anew with it.
 */
import { setTimeout } from 'node:timers';
import { status } from '../native/shared-state.js';

/** The slot of a mapping's status word, or of a word that is not 0 where it is not to be read here. A symbol, which no user sees. */
export const GATE: unique symbol = Symbol('gate');
/** The mapping's memory, by 32 bits. */
export const WORDS: unique symbol = Symbol('words');

/** What the method needs of a mapping. */
export interface Readable {
  readonly [GATE]: number;
  readonly [WORDS]: Uint32Array;
}

type Leave = (receiver: unknown, offset: number) => number;

interface Read32 {
  read32(this: Readable, offset: number): number;
}

/**
 * Its text is evaluated again for each that is needed: it may name nothing but its parameters.
 *
 * @param gateOf the names of a mapping's own members: see {@link GATE}, {@link WORDS}.
 * @param alwaysLive has an element for the status word of a mapping that is live and never was anything else, and none for other words.
 * @param sink the word a read stores to between its load and its second look at the status word.
 * @param inOrder true if the processor makes a thread's loads visible in program order, as x86 does and ARM does not.
 * @param leave reads, or throws, in another way. It is called for whatever has failed before the load.
 * @param afterLoad the same, for a status word that changed during the load.
 */
function makeRead32(
  gateOf: typeof GATE,
  wordsOf: typeof WORDS,
  alwaysLive: Uint8Array,
  words: Int32Array,
  sink: number,
  inOrder: boolean,
  leave: Leave,
  afterLoad: Leave,
): Read32 {
  return {
    // Nothing but array accesses, whose bounds are the checks: V8 then leaves the compiled code where one fails, and a loop around it
    // has no branch and no call that would keep it from doing once what is the same each time. Comparisons would, at three times the
    // price. An offset that is no multiple of 4, or no number, has no element either.
    read32(offset) {
      let gate: number;
      try {
        gate = this[gateOf];
      } catch {
        return leave(this, offset);
      }
      if (alwaysLive[words[gate]] !== undefined) {
        // The order of the next lines is the product: the handler sets the status word before it lets a faulting load complete, so a
        // word that is the same after the load says that the load was real. The store to the sink keeps compilers from answering with
        // the word they loaded above (Maglev in Node 26 does): it depends on the value and may, for all they know, be to that very
        // word. Atomics.add orders the two loads on processors that do not.
        const value = this[wordsOf][typeof offset === 'number' ? offset / 4 : -1];
        // (Of numbers that are not whole, those that a quarter of is 0 have one.)
        if (value !== undefined && alwaysLive[offset % 1] !== undefined) {
          words[sink] = value;
          if (!inOrder) Atomics.add(words, sink, 0);
          if (alwaysLive[words[gate]] !== undefined) return value;
          return afterLoad(this, offset);
        }
      }
      return leave(this, offset);
    },
  };
}

const ALWAYS_LIVE = new Uint8Array(new ArrayBuffer(1));

/** So many failures in a row are followed by the fast method at once; each further one by twice the time. */
const FREE_FAILURES = 4;
const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 3_600_000;

export class FastReads {
  /** The method is in the chain. */
  #in = false;
  #generation = 0;
  #since = 0;
  #failures = 0;
  #mayReturnAt = 0;
  /** False where text may not be evaluated, or does not evaluate to what it says. */
  #canEvaluate: boolean | undefined;
  readonly #leave: Leave;
  readonly #afterLoad: Leave;

  /**
   * @param prototype whose objects have the method.
   * @param below the prototype below. It has the same method, slower, which is called on whatever the fast one was called on; and what is to be
   *   done after a load during which the status word changed.
   */
  constructor(
    readonly prototype: object,
    readonly sink: number,
    readonly inOrder: boolean,
    below: Read32 & { _read32AfterLoad(offset: number): number },
  ) {
    this.#leave = (receiver, offset) => {
      this.#takeOut();
      return below.read32.call(receiver as Readable, offset);
    };
    this.#afterLoad = (receiver, offset) => {
      this.#takeOut();
      return below._read32AfterLoad.call(receiver, offset);
    };
    this.#putIn(makeRead32);
  }

  /** It is likely to be needed: another mapping has been made. */
  restore(): void {
    if (this.#in || this.#canEvaluate === false || performance.now() < this.#mayReturnAt) return;
    this.#canEvaluate ??= this.#evaluatesWell();
    if (!this.#canEvaluate) return;
    this.#putIn(evaluated(this.#generation));
  }

  #putIn(make: typeof makeRead32): void {
    const below: unknown = Object.getPrototypeOf(this.prototype);
    const method = make(GATE, WORDS, ALWAYS_LIVE, status, this.sink, this.inOrder, this.#leave, this.#afterLoad);
    Object.defineProperty(method, 'read32', { enumerable: false });
    Object.setPrototypeOf(method, below as object);
    if (this.#generation++ > 0) makeFast(method, this.#generation);
    // Not where a program has frozen it: reads then stay with the method that they have.
    this.#in = Reflect.setPrototypeOf(this.prototype, method);
    this.#since = performance.now();
  }

  #takeOut(): void {
    if (!this.#in) return;
    this.#in = false;
    Reflect.setPrototypeOf(this.prototype, Reflect.getPrototypeOf(Reflect.getPrototypeOf(this.prototype)!));
    const now = performance.now();
    const delay = this.#delayAfter(now - this.#since);
    this.#mayReturnAt = now + delay;
    setTimeout(() => this.restore(), delay).unref();
  }

  /** V8 compiles anew after each failure, which must not become all that it does. */
  #delayAfter(lasted: number): number {
    if (lasted > 10 * (FIRST_DELAY_MS + this.#delay)) this.#failures = 0;
    this.#failures++;
    return this.#delay;
  }

  get #delay(): number {
    if (this.#failures <= FREE_FAILURES) return 0;
    return Math.min(FIRST_DELAY_MS * 2 ** (this.#failures - FREE_FAILURES - 1), LONGEST_DELAY_MS);
  }

  /** Not where a program forbids it, or has changed the text: tools that count what is run do. */
  #evaluatesWell(): boolean {
    try {
      const [gate, sink] = [0, 1];
      const made = evaluated(-1)(GATE, WORDS, ALWAYS_LIVE, new Int32Array(2), sink, this.inOrder, failing, failing);
      return made.read32.call({ [GATE]: gate, [WORDS]: Uint32Array.of(0, 7) }, 4) === 7;
    } catch {
      return false;
    }
  }
}

function failing(): never {
  throw new Error('a text that was changed');
}

/** V8 compiles a text once, and remembers what it does by that: each has a number of its own. */
function evaluated(generation: number): typeof makeRead32 {
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the text is this file's
  return (new Function(`'use strict'; return ${makeRead32.toString()} // ${generation}`) as () => typeof makeRead32)();
}

/** V8 keeps the members of a new prototype in a table, whose methods it does not inline, until it has looked some up. */
function makeFast(prototype: object, generation: number): void {
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the text is this file's
  const look = new Function('object', `return object.read32 // ${generation}`) as (object: unknown) => unknown;
  const object: unknown = Object.create(prototype);
  for (let i = 0; i < 20; i++) look(object);
}
