/**
 * revocable-mmap: memory mappings for Node that survive the device going away.
 *
 * @packageDocumentation
 */
export { MemoryObject, revokeMappings } from './memory/memory-object.js';
export type { MemoryState } from './memory/memory-object.js';
export type { CreateOptions, OpenOptions, Seal } from './memory/object-options.js';
export type { MapOptions } from './memory/map-options.js';

export { Mapping } from './memory/mapping.js';
export type { FaultInfo } from './memory/mapping-events.js';
export type { Advice, MappingHandle, PageRange } from './memory/mapping.js';
export type { RevokeReport } from './memory/revoke-report.js';
export type { WasmMemory } from './memory/wasm-memory.js';
export type { WaitOptions, WaitResult } from './memory/futex-waits.js';

export {
  AccessError,
  BackingFaultError,
  isRevokedError,
  MappingClosedError,
  MappingRevokedError,
  MappingSuspendedError,
  ProtectedPageError,
  ReadOnlyMappingError,
} from './errors.js';
export type { BackingFaultCause, DeviceFaultCause } from './errors.js';

export * from './device/index.js';

export type { AddonLoadCode, AddonLoadError } from './native/addon-error.js';

export { stats } from './stats.js';
export type { Stats } from './stats.js';
