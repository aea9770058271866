/**
 * The backing of a memory object that is a region of a simulated device, reached from the thread where the device's ops run or from
 * another one.
 */
import { registerBackingProvider, type Backing, type RegisterPort } from '../memory/backing-provider.js';
import { native } from '../native/load.js';
import { sharedRegistry } from '../native/shared-state.js';
import { registersFromElsewhere, registersInNativeCode } from './remote-calls.js';

/** What a device offers the memory objects of its own thread. */
export interface RegionOwner {
  registerPort(region: number, raw: boolean): RegisterPort;
  drain(region: number): () => Promise<void>;
}

/** The devices whose ops run in this thread, by native id. */
export const devicesHere = sharedRegistry<RegionOwner>('devices');

/** How to wait for a device elsewhere to be done with its ops, by native id. */
export const drainsElsewhere = sharedRegistry<(region: number) => Promise<void>>('drains');

function regionBacking(objectId: number): Backing | undefined {
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

registerBackingProvider(regionBacking);
