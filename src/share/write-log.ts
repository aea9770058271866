/** Where a device has written to memory of a client: what has to be copied again when the client moves it elsewhere. */
import { bitmapBytes, type Area, type LogReport } from './wire.js';

/** How many separate pieces are kept apart. */
const MOST_PIECES = 65_536;

interface Piece {
  begin: number;
  end: number;
}

/** It may say of more that it has been written, never of less. */
export class WriteLog {
  /** Whole pages, by address: they neither overlap nor adjoin. */
  #pieces: Piece[] = [];

  constructor(readonly pageSize: number) {}

  add({ offset, size }: Area): void {
    const page = this.pageSize;
    const begin = Math.floor(offset / page) * page;
    const end = Math.ceil((offset + size) / page) * page;
    const from = this.#firstThatEndsFrom(begin);
    let to = from;
    while (to < this.#pieces.length && this.#pieces[to].begin <= end) to++;
    const merged =
      from === to
        ? { begin, end }
        : { begin: Math.min(begin, this.#pieces[from].begin), end: Math.max(end, this.#pieces[to - 1].end) };
    this.#pieces.splice(from, to - from, merged);
    if (this.#pieces.length > MOST_PIECES) this.#pieces = [{ begin: this.#pieces[0].begin, end: this.#pieces.at(-1)!.end }];
  }

  /** Bits of what is in the log there, which is in it no more. */
  take(report: LogReport): Uint8Array {
    const { offset, size, pageSize } = report;
    const end = offset + size;
    const bitmap = new Uint8Array(bitmapBytes(report));
    const kept: Piece[] = [];
    for (const piece of this.#pieces) {
      if (piece.begin < offset) kept.push({ begin: piece.begin, end: Math.min(piece.end, offset) });
      if (piece.end > end) kept.push({ begin: Math.max(piece.begin, end), end: piece.end });
      const [first, last] = [Math.max(piece.begin, offset) - offset, Math.min(piece.end, end) - offset];
      if (first >= last) continue;
      for (let bit = Math.floor(first / pageSize); bit * pageSize < last; bit++) bitmap[bit >> 3] |= 1 << (bit & 7);
    }
    this.#pieces = kept;
    return bitmap;
  }

  #firstThatEndsFrom(begin: number): number {
    let [low, high] = [0, this.#pieces.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#pieces[middle].end < begin) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
