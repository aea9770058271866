/** What a register holds, as native code takes and gives it: two halves of 32 bits. */

export function halvesOf(value: number | bigint): [low: number, high: number] {
  if (typeof value === 'number') return [value, 0];
  return [Number(value & 0xffff_ffffn), Number(value >> 32n)];
}

/** A bigint for 8 bytes. */
export function valueOf(width: number, low: number, high: number): number | bigint {
  return width === 8 ? (BigInt(high) << 32n) | BigInt(low) : low;
}
