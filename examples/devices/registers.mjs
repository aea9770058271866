/**
 * A card's registers by raw typed arrays: what `mapping.read32`, `write32` and `write64` are by checked accessors.
 *
 * Loads are `Atomics.load`, which V8 executes once each: of two others it may make one, and one it may execute twice. Stores are plain
 * ones: `Atomics.store` is an exchange on x86-64, which reads the register too.
 */
export class RawRegisters {
  #mapping;
  #words;
  #longs;

  constructor(mapping) {
    const { buffer, byteOffset, length } = mapping.bytes;
    this.#mapping = mapping;
    this.#words = new Uint32Array(buffer, byteOffset, length / 4);
    this.#longs = new BigUint64Array(buffer, byteOffset, length / 8);
  }

  /** Throws once the card is gone. */
  read32(offset) {
    return answered(this.#mapping, Atomics.load(this.#words, offset / 4));
  }

  /** What is written to a card that is gone is discarded: the next read throws. */
  write32(offset, value) {
    this.#words[offset / 4] = value;
  }

  write64(offset, value) {
    this.#longs[offset / 8] = value;
  }
}

/** What has been loaded raw, if the card was there. The value does not tell: the fill keeps what is written to it. */
export function answered(mapping, value) {
  mapping.check();
  return value >>> 0;
}
