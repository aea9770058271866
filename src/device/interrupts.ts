/** Interrupts of a device that wait for one consumer. */
import { PushIterator } from './push-iterator.js';
import { Queue } from './queue.js';

/** The interrupts of a file, from {@link DeviceFile.interrupts} on. */
export interface Interrupts extends AsyncIterableIterator<number> {
  /**
   * How many interrupts the iteration does not yield: when 65,536 wait to be taken, a vector of which one waits already is not queued
   * again, as a level that is raised twice is not. Every vector that was raised is yielded at least once.
   */
  readonly lost: number;
}

export const MOST_INTERRUPTS_WAITING = 65_536;

/** @internal */
export class InterruptQueue extends PushIterator<number> {
  declare readonly iterator: Interrupts;

  constructor(onEnd: () => void, onWait: (change: 1 | -1) => void) {
    const waiting = new Vectors();
    super(onEnd, onWait, waiting);
    Object.defineProperty(this.iterator, 'lost', { get: () => waiting.lost, enumerable: true });
  }
}

class Vectors extends Queue<number> {
  lost = 0;
  /** How often each vector waits. */
  readonly #counts = new Map<number, number>();

  override push(vector: number): void {
    const count = this.#counts.get(vector) ?? 0;
    if (this.length >= MOST_INTERRUPTS_WAITING && count > 0) {
      ++this.lost;
      return;
    }
    this.#counts.set(vector, count + 1);
    super.push(vector);
  }

  override shift(): number | undefined {
    const vector = super.shift();
    if (vector === undefined) return undefined;
    const count = this.#counts.get(vector)! - 1;
    if (count > 0) this.#counts.set(vector, count);
    else this.#counts.delete(vector);
    return vector;
  }

  override clear(): void {
    this.#counts.clear();
    super.clear();
  }
}
