/** Those who want to know of something, each until it no longer does. */
export class Listeners {
  readonly #all = new Set<() => void>();

  /** Returns what takes it out again. */
  add(listener: () => void): () => void {
    this.#all.add(listener);
    return () => this.#all.delete(listener);
  }

  call(): void {
    for (const listener of this.#all) listener();
  }
}
