// The device: a ring of 1 MiB. A producer writes numbered slots, each guarded by its sequence number as drivers do it (odd
// while it is written); readers check that what they see was written as one.

export const RING_BYTES = 1 << 20;
const SLOT_BYTES = 64;
const SLOTS = RING_BYTES / SLOT_BYTES;
const WORDS = 12;

/** A page beside the device that stays: what the demo uses to direct its actors. */
export const CONTROL_BYTES = 4096;
export const CONTROL = { stop: 0, unplugged: 4, reads: (holder) => 64 + holder * 8 };

const pattern = (sequence, word) => (Math.imul(sequence, 2654435761) + word) >>> 0;

/** Writes slot after slot until the memory goes. Returns how many, and the error that ended it. */
export function produce(ring, control, holder) {
  let sequence = 0;
  try {
    for (;;) {
      sequence += 2;
      const slot = ((sequence / 2) % SLOTS) * SLOT_BYTES;
      ring.write32(slot, sequence - 1);
      for (let word = 1; word <= WORDS; word++) ring.write32(slot + 4 * word, pattern(sequence, word));
      ring.write32(slot, sequence);
      if (sequence % 4096 === 0) control.write32(CONTROL.reads(holder), sequence / 2);
      if (sequence % 65536 === 0 && control.read32(CONTROL.stop) !== 0) return { count: sequence / 2 };
    }
  } catch (error) {
    return { count: sequence / 2, error, at: process.hrtime.bigint() };
  }
}

/**
 * Reads slots until the memory goes. `after` counts reads that succeeded although the unplug had been over before they began, `torn`
 * slots whose sequence number was the same before and after and whose words still did not belong together.
 */
export function consume(ring, control, holder, limit = Infinity) {
  const seen = { count: 0, torn: 0, after: 0 };
  let slot = (holder * 4099) % SLOTS;
  try {
    for (let n = 0; n < limit; n++) {
      slot = (slot + 1) % SLOTS;
      const at = slot * SLOT_BYTES;
      const over = control.read32(CONTROL.unplugged) !== 0;
      const sequence = ring.read32(at);
      if (over) seen.after++;
      if (sequence === 0 || sequence % 2 === 1) continue;
      let right = true;
      for (let word = 1; word <= WORDS; word++) right &&= ring.read32(at + 4 * word) === pattern(sequence, word);
      const same = ring.read32(at) === sequence;
      if (same && !right) seen.torn++;
      if (same && ++seen.count % 1024 === 0) control.write32(CONTROL.reads(holder), seen.count);
      if (seen.count % 65536 === 0 && control.read32(CONTROL.stop) !== 0) break;
    }
  } catch (error) {
    return { ...seen, error, at: process.hrtime.bigint() };
  }
  return seen;
}
