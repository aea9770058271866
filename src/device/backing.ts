/**
 * How a memory object reaches the simulated device whose region it is: from this thread, where the device's ops may run, or from
 * another one.
 */
import { native } from '../native/load.js';
import { sharedRegistry } from '../native/shared-state.js';
import { registersFromElsewhere, registersInNativeCode } from './remote-calls.js';

/** The model of a device's registers. Offsets are of the region. */
export interface RegisterPort {
  /** Raw accesses reach it too. */
  raw: boolean;
  /** Whether the device has been removed. */
  gone(): boolean;
  /** Undefined when the device is gone. */
  read(offset: number, width: number): number | bigint | undefined;
  /** False when the device is gone. */
  write(offset: number, width: number, value: number | bigint): boolean;
}

export interface DeviceLink {
  /** Only for a region of registers. */
  registers: RegisterPort | undefined;
  /** Its pages come at their first touch: no system call brings them. */
  supplied: boolean;
  /** The ops that supply its pages, or answer for its registers, run in this thread. */
  servedHere: boolean;
  /**
   * To be called as a revocation of the object begins. What it returns is to be called when the memory has gone: it resolves when no op that
   * was asked for a page of it runs any more, but the op that revokes.
   */
  drain(): () => Promise<void>;
}

/** What a device offers the memory objects of its own thread. */
export interface LinkedHere {
  registerPort(region: number, raw: boolean): RegisterPort;
  drain(region: number): () => Promise<void>;
}

/** The devices whose ops run in this thread, by native id. */
export const devicesHere = sharedRegistry<LinkedHere>('devices');

/** How to wait for a device elsewhere to be done with its ops, by native id. */
export const drainsElsewhere = sharedRegistry<(region: number) => Promise<void>>('drains');

export function linkOf(objectId: number): DeviceLink | undefined {
  const found = native.objectDevice(objectId);
  if (found === null) return undefined;
  const { device, region, supplied } = found;
  const here = devicesHere.get(device);
  const inJavaScript = found.registers && (!found.native || found.asking);
  const answered = (): RegisterPort =>
    here === undefined ? registersFromElsewhere(device, region, found.raw) : here.registerPort(region, found.raw);
  const registers = (): RegisterPort | undefined => {
    if (!found.registers) return undefined;
    const port = inJavaScript ? answered() : undefined;
    return found.native ? registersInNativeCode(device, objectId, found.raw, port) : port;
  };
  if (here !== undefined) {
    return {
      registers: registers(),
      supplied,
      servedHere: found.asks || inJavaScript,
      drain: () => here.drain(region),
    };
  }
  return {
    registers: registers(),
    supplied,
    servedHere: false,
    drain: () => async () => drainsElsewhere.get(device)?.(region),
  };
}
