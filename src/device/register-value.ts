/** What a register holds, as native code takes and gives it: two halves of 32 bits. */

export function halvesOf(value: number | bigint): [low: number, high: number] {
  if (typeof value === 'number') return [value, 0];
  return [Number(value & 0xffff_ffffn), Number(value >> 32n)];
}

/** The low bytes of it, in a register of that width. */
export function truncated(width: number, value: number | bigint): number | bigint {
  const bits = BigInt.asUintN(8 * width, BigInt(value));
  return width === 8 ? bits : Number(bits);
}

/** What an access of that width at `offset` writes to a register at `at`: in its place there. */
export function partOf(offset: number, width: number, value: number | bigint, at: number, bytes: number): number | bigint {
  const shift = 8 * (offset - at);
  const whole = BigInt.asUintN(8 * width, BigInt(value));
  return truncated(bytes, shift < 0 ? whole >> BigInt(-shift) : whole << BigInt(shift));
}

/** A bigint for 8 bytes. */
export function valueOf(width: number, low: number, high: number): number | bigint {
  return width === 8 ? (BigInt(high) << 32n) | BigInt(low) : low;
}
