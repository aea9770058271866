/**
 * Simulated devices: memory with real page faults, registers, files, interrupts; and their removal.
 *
 * @packageDocumentation
 */
export { Bus } from './hotplug-bus.js';
export type { HotplugAction, HotplugEvent } from './hotplug-bus.js';
export { Device } from './device.js';
export type { OpCounts } from './op-counts.js';
export type { DeviceRegion } from './device-region.js';
export { DeviceBase } from './device-base.js';
export { deviceError } from './device-errors.js';
export type { DeviceEvents, DeviceFaultInfo, DeviceState, RemovalReport } from './device-types.js';
export { DeviceFile } from './device-file.js';
export type { DeviceDma, DmaAccess, DmaOptions, DmaRange, DmaTransferOptions } from './dma.js';
export type { CallOptions, DeviceMapOptions, PollOptions } from './device-file.js';
export type { Interrupts } from './interrupts.js';
export type { PciOptions, RegionPlace } from './pci-options.js';
export { POLL } from './device-ops.js';
export type {
  DeviceMappingInfo,
  DeviceOps,
  DeviceOptions,
  FaultAnswer,
  FaultedPage,
  MmapRequest,
  OpContext,
  OpenFile,
  PageSupply,
  RegionOptions,
  RegisterModel,
} from './device-ops.js';
export { RegisterFile } from './register-file.js';
export type { RegisterFileOptions, RegisterKind, RegisterSpec } from './register-file.js';
export type { SpawnedDevice, SpawnOptions } from './spawned-device.js';
export { Trace } from './trace.js';
export type { DeviceAccess, TraceOptions } from './trace.js';
export { parseAccess } from './trace-text.js';
export type { AccessLine, AccessWidth, LineOptions } from './trace-text.js';
export { DeviceOpError, RawRegistersError, RegisterAccessError, SelfFaultError, TraceLineError } from '../errors.js';
export type { RegisterAccessCause } from '../errors.js';
