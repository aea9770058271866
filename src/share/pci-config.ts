/** The configuration space of a served device: what a PCI function says of itself, and what its driver may write there. */
import type { CheckedPci } from '../device/pci-options.js';
import { pendingOffset, type Bar } from './bars.js';
import { viewOf } from './wire.js';

export const CONFIG_BYTES = 256;
const OFFSETS = {
  vendor: 0,
  device: 2,
  command: 4,
  status: 6,
  revision: 8,
  class: 9,
  bars: 0x10,
  subsystemVendor: 0x2c,
  subsystem: 0x2e,
  capabilities: 0x34,
  line: 0x3c,
  pin: 0x3d,
} as const;
/** In the command register. */
const COMMAND = { memory: 0x2, busMaster: 0x4, noIntx: 0x400 } as const;
const HAS_CAPABILITIES = 0x10;
const BAR_WIDE = 0x4;
const BAR_PREFETCHABLE = 0x8;
/** Capabilities, with what they are called in `linux/pci_regs.h`, and where they are here. */
const POWER = { id: 0x01, at: 0x40 } as const;
const MSI = { id: 0x05, at: 0x50 } as const;
const MSIX = { id: 0x11, at: 0x70 } as const;

/** What a device is that says nothing of PCI. */
const PLAIN: CheckedPci = {
  vendorId: 0x1234,
  deviceId: 0x1de7,
  subsystem: { vendorId: 0, deviceId: 0 },
  classCode: 0xff_0000,
  revision: 0,
  intx: true,
  msi: 0,
  msix: 0,
};

export class PciConfig {
  /**
   * Its first byte is 0 while the device may not access memory by itself. A client without a PCI driver never writes the command register:
   * until one has, the bit in it means nothing.
   */
  readonly busMaster = new Uint8Array(new SharedArrayBuffer(1)).fill(1);
  readonly #bytes = new Uint8Array(CONFIG_BYTES);
  /** The bits that can be written. */
  readonly #mask = new Uint8Array(CONFIG_BYTES);
  readonly #initial: Uint8Array;
  /** The table of MSI-X, in a BAR of its own. What is in it is the client's business. Zeros where its pending bits are. */
  readonly table: Uint8Array;
  /** Where the pending bits begin in that BAR. */
  readonly pending: number;

  constructor(bars: Iterable<Bar>, pci: CheckedPci | undefined) {
    const all = [...bars];
    const identity = pci ?? PLAIN;
    const [config, mask] = [viewOf(this.#bytes), viewOf(this.#mask)];
    config.setUint16(OFFSETS.vendor, identity.vendorId, true);
    config.setUint16(OFFSETS.device, identity.deviceId, true);
    config.setUint8(OFFSETS.revision, identity.revision);
    config.setUint8(OFFSETS.class, identity.classCode & 0xff);
    config.setUint16(OFFSETS.class + 1, identity.classCode >> 8, true);
    config.setUint16(OFFSETS.subsystemVendor, identity.subsystem.vendorId, true);
    config.setUint16(OFFSETS.subsystem, identity.subsystem.deviceId, true);
    config.setUint8(OFFSETS.pin, identity.intx ? 1 : 0);
    mask.setUint16(OFFSETS.command, COMMAND.memory | COMMAND.busMaster | COMMAND.noIntx, true);
    mask.setUint8(OFFSETS.line, 0xff);
    for (const bar of all) setBar(config, mask, bar);
    const table = all.find(({ parts }) => parts.some(({ region }) => region === undefined));
    this.table = new Uint8Array(table?.size ?? 0);
    this.pending = this.table.byteLength / 2;
    if (pci !== undefined) setCapabilities(config, mask, pci, table?.index ?? 0);
    this.#initial = this.#bytes.slice();
  }

  /** The driver has not turned the interrupt pin off. */
  get intxEnabled(): boolean {
    return (viewOf(this.#bytes).getUint16(OFFSETS.command, true) & COMMAND.noIntx) === 0;
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
      this.busMaster[0] = this.#bytes[OFFSETS.command] & COMMAND.busMaster ? 1 : 0;
  }

  /** Pending bits are there to be read only. */
  writeTable(offset: number, data: Uint8Array): void {
    if (offset < this.pending) this.table.set(data.subarray(0, this.pending - offset), offset);
  }

  /** As it was at first; bus mastering is off if a driver has ever had a hand in it. */
  reset(): void {
    const untouched = this.busMaster[0] === 1 && (this.#bytes[OFFSETS.command] & COMMAND.busMaster) === 0;
    this.#bytes.set(this.#initial);
    this.table.fill(0);
    if (!untouched) this.busMaster[0] = 0;
  }
}

function setBar(config: DataView, mask: DataView, { index, size, wide, prefetchable }: Bar): void {
  const at = OFFSETS.bars + index * 4;
  config.setUint32(at, (wide ? BAR_WIDE : 0) | (prefetchable ? BAR_PREFETCHABLE : 0), true);
  // A BAR decodes a power of two, and its low four bits are not address.
  const decoded = 2n ** BigInt(Math.max(4, Math.ceil(Math.log2(size))));
  const writable = BigInt.asUintN(64, -decoded);
  if (wide) mask.setBigUint64(at, writable, true);
  else if (decoded <= 2n ** 31n) mask.setUint32(at, Number(writable & 0xffff_ffffn), true);
}

function setCapabilities(config: DataView, mask: DataView, pci: CheckedPci, tableBar: number): void {
  config.setUint16(OFFSETS.status, HAS_CAPABILITIES, true);
  let link: number = OFFSETS.capabilities;
  const add = ({ id, at }: { id: number; at: number }): void => {
    config.setUint8(link, at);
    config.setUint8(at, id);
    link = at + 1;
  };
  add(POWER);
  config.setUint16(POWER.at + 2, 0x0003, true); // version 3, D0 and D3hot
  config.setUint16(POWER.at + 4, 0x0008, true); // it keeps its state from D3hot to D0
  mask.setUint16(POWER.at + 4, 0x0003, true);
  if (pci.msi > 0) {
    add(MSI);
    config.setUint16(MSI.at + 2, 0x80 | (Math.log2(pci.msi) << 1), true); // addresses of 64 bits
    mask.setUint16(MSI.at + 2, 0x71, true);
    mask.setUint32(MSI.at + 4, 0xffff_fffc, true);
    mask.setUint32(MSI.at + 8, 0xffff_ffff, true);
    mask.setUint16(MSI.at + 12, 0xffff, true);
  }
  if (pci.msix > 0) {
    add(MSIX);
    config.setUint16(MSIX.at + 2, pci.msix - 1, true);
    mask.setUint16(MSIX.at + 2, 0xc000, true);
    config.setUint32(MSIX.at + 4, tableBar, true);
    config.setUint32(MSIX.at + 8, pendingOffset(pci.msix) | tableBar, true);
  }
}
