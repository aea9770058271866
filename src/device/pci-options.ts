/** What a device is on a PCI bus, and where its regions are: for programs that other processes open it by. */
import { boolean, integer, requiredObject } from '../arguments.js';
import { invalidValue } from '../errors.js';

export interface PciOptions {
  /** 16 bits. Default `0x1234`. */
  vendorId?: number;
  /** 16 bits. Default `0x1de7`. */
  deviceId?: number;
  /** Default zeros. */
  subsystem?: { vendorId: number; deviceId: number };
  /** 24 bits: class, subclass, interface. Default `0xff0000`, a class of its own. */
  classCode?: number;
  /** 8 bits. Default 0. */
  revision?: number;
  /** It has an interrupt pin: vector 0. Default true. */
  intx?: boolean;
  /** Vectors of MSI: 1, 2, 4, 8, 16 or 32. Default none. */
  msi?: number;
  /** Vectors of MSI-X, 1 to 256. Their table is a BAR of its own, the last that is free. Default none. */
  msix?: number;
}

export interface CheckedPci {
  vendorId: number;
  deviceId: number;
  subsystem: { vendorId: number; deviceId: number };
  classCode: number;
  revision: number;
  intx: boolean;
  msi: number;
  msix: number;
}

/** Where a region is on a PCI bus. */
export interface RegionPlace {
  /** Which BAR: 0 to 5. Default the region's number. */
  bar?: number;
  /** First byte in the BAR. Memory begins at 0; registers may be behind it, or before what is used of it, over its pages. Default 0. */
  barOffset?: number;
  /** The BAR has 64 bits, and takes the next one too. Default false. */
  wide?: boolean;
  /** Reads have no effects, and writes may be merged. Default false. */
  prefetchable?: boolean;
}

export type CheckedPlace = Required<RegionPlace>;

const number16 = (name: string, value: unknown, fallback: number): number =>
  integer(name, value === undefined ? fallback : value, 0, 0xffff);

export function checkPci(pci: PciOptions | undefined): CheckedPci | undefined {
  if (pci === undefined) return undefined;
  const given = requiredObject('options.pci', pci);
  const { vendorId, deviceId } =
    given.subsystem === undefined ? { vendorId: 0, deviceId: 0 } : requiredObject('options.pci.subsystem', given.subsystem);
  const msi = integer('options.pci.msi', given.msi === undefined ? 0 : given.msi, 0, 32);
  if (msi !== 0 && !Number.isInteger(Math.log2(msi))) throw invalidValue('options.pci.msi', 'must be a power of two', msi);
  return {
    vendorId: number16('options.pci.vendorId', given.vendorId, 0x1234),
    deviceId: number16('options.pci.deviceId', given.deviceId, 0x1de7),
    subsystem: {
      vendorId: number16('options.pci.subsystem.vendorId', vendorId, 0),
      deviceId: number16('options.pci.subsystem.deviceId', deviceId, 0),
    },
    classCode: integer('options.pci.classCode', given.classCode === undefined ? 0xff_0000 : given.classCode, 0, 0xff_ffff),
    revision: integer('options.pci.revision', given.revision === undefined ? 0 : given.revision, 0, 0xff),
    intx: boolean('options.pci.intx', given.intx, true),
    msi,
    msix: integer('options.pci.msix', given.msix === undefined ? 0 : given.msix, 0, 256),
  };
}

export function checkPlace(at: string, index: number, region: RegionPlace): CheckedPlace {
  const { bar, barOffset } = region;
  return {
    bar: bar === undefined ? index : integer(`${at}.bar`, bar, 0, 5),
    barOffset: integer(`${at}.barOffset`, barOffset === undefined ? 0 : barOffset, 0, 2 ** 47),
    wide: boolean(`${at}.wide`, region.wide, false),
    prefetchable: boolean(`${at}.prefetchable`, region.prefetchable, false),
  };
}
