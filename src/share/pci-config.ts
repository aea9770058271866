/** The configuration space of a served device: what a PCI function says of itself, and what its driver may write there. */
import { viewOf } from './wire.js';

export const CONFIG_BYTES = 256;
const VENDOR = 0x1234;
const DEVICE = 0x1de7;
/** "Unassigned class". */
const CLASS = 0xff;
const OFFSETS = { vendor: 0, device: 2, command: 4, class: 0x0b, bars: 0x10, line: 0x3c, pin: 0x3d } as const;
/** Memory space, bus master, interrupts disabled. */
const COMMAND_BITS = 0x0406;
/** The largest region that a BAR of 32 bits has room for. */
const MOST_OF_BAR = 2 ** 31;

/** In the command register: the device may access memory by itself. */
const BUS_MASTER = 0x4;

export class PciConfig {
  /**
   * Its first byte is 0 while the device may not access memory by itself. A client without a PCI driver never writes the command register:
   * until one has, the bit in it means nothing.
   */
  readonly busMaster = new Uint8Array(new SharedArrayBuffer(1)).fill(1);
  readonly #bytes = new Uint8Array(CONFIG_BYTES);
  /** The bits that can be written. */
  readonly #mask = new Uint8Array(CONFIG_BYTES);

  /** `sizes` of the regions, in order: a region is the BAR of its number. */
  constructor(sizes: readonly number[]) {
    const [config, mask] = [viewOf(this.#bytes), viewOf(this.#mask)];
    config.setUint16(OFFSETS.vendor, VENDOR, true);
    config.setUint16(OFFSETS.device, DEVICE, true);
    config.setUint8(OFFSETS.class, CLASS);
    config.setUint8(OFFSETS.pin, 1);
    mask.setUint16(OFFSETS.command, COMMAND_BITS, true);
    mask.setUint8(OFFSETS.line, 0xff);
    sizes.forEach((size, i) => {
      // A BAR decodes a power of two, and its low four bits are not address.
      const decoded = Math.max(16, 2 ** Math.ceil(Math.log2(size)));
      if (decoded <= MOST_OF_BAR) mask.setUint32(OFFSETS.bars + i * 4, -decoded >>> 0, true);
    });
  }

  read(offset: number, count: number): Uint8Array {
    return this.#bytes.slice(offset, offset + count);
  }

  write(offset: number, data: Uint8Array): void {
    data.forEach((byte, i) => {
      const mask = this.#mask[offset + i];
      this.#bytes[offset + i] = (this.#bytes[offset + i] & ~mask) | (byte & mask);
    });
    if (offset <= OFFSETS.command && offset + data.byteLength > OFFSETS.command)
      this.busMaster[0] = this.#bytes[OFFSETS.command] & BUS_MASTER ? 1 : 0;
  }
}
