/** 32-bit words of a mapping that threads and processes share: each access is atomic, and throws where the memory is gone. */
import { integer, multipleOf } from '../arguments.js';
import { invalidType, invalidValue, outOfRange, ReadOnlyMappingError } from '../errors.js';
import { Mapping } from '../memory/mapping.js';

/** A mapping that can hold what is shared: memory, which is written to, and which survives a raw access. */
export function requireSharable(mapping: Mapping): Mapping {
  if (!(mapping instanceof Mapping)) throw invalidType('mapping', 'an instance of Mapping', mapping);
  if (mapping.object._backing?.registers !== undefined)
    throw invalidValue('mapping', 'must be of memory, not of registers', mapping);
  if (mapping._deadly) throw invalidValue('mapping', "must not have the fill 'signal'", mapping);
  if (mapping.access === 'r') throw new ReadOnlyMappingError({ object: mapping.object.name });
  return mapping;
}

/** A place in the mapping for so many bytes. */
export function placeIn(mapping: Mapping, name: string, offset: unknown, unit: number, bytes: number): number {
  if (bytes > mapping.length) throw outOfRange('mapping.length', `>= ${bytes}`, mapping.length);
  return multipleOf(name, integer(name, offset === undefined ? 0 : offset, 0, mapping.length - bytes), unit);
}

export class SharedWords {
  readonly #words: Uint32Array;

  /** `offset` is a multiple of 4. */
  constructor(
    readonly mapping: Mapping,
    readonly offset: number,
    count: number,
  ) {
    mapping.read32(offset); // before anything is touched raw
    this.#words = new Uint32Array(mapping.buffer, mapping.bytes.byteOffset + offset, count);
  }

  /**
   * What was written before the word was is seen after this: a checked read is ordered before what follows it, as its own look at the
   * mapping's state is (docs/decisions/005-checked-accessors.md), and costs a tenth of `Atomics.load`.
   *
   * @throws what {@link Mapping.read32} throws.
   */
  load(index: number): number {
    return this.mapping.read32(this.offset + 4 * index);
  }

  /** For a word that only this thread writes. What was written before is seen by those who see this. */
  store(index: number, value: number): void {
    // A store that falls into a suspension reaches the fill.
    do Atomics.store(this.#words, index, value);
    while (this.load(index) !== value);
  }

  /** True if the word was `expected`, and has been replaced. The caller looks whether that reached the memory: a suspension may be over. */
  replace(index: number, expected: number, value: number): boolean {
    return Atomics.compareExchange(this.#words, index, expected, value) === expected;
  }
}
