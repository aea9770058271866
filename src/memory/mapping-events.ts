/** What mappings emit. */
import type { BackingFaultCause, MappingRevokedError } from '../errors.js';

/** What a `'fault'` event tells. */
export interface FaultInfo {
  /**
   * `'backing'`: a page of a live mapping could not be had. `'protection'`: a raw access that the page's protection forbids was
   * diverted. `'revoked'`: the first raw access to a revoked or suspended mapping got the fill (published on the channel only).
   * `'self'`: a raw access by the thread that would have had to supply the page, or to answer for the register, got the fill.
   * `'refused'`: a raw access was not wholly within a device's registers, or made by an instruction that cannot be delivered; it got the fill.
   */
  kind: 'backing' | 'protection' | 'revoked' | 'self' | 'refused';
  /** Why the backing is gone; `'none'` where the fault is not one of the backing. */
  cause: BackingFaultCause | 'none';
  /** A write, or a read. */
  write: boolean;
  /** The faulting byte, from the start of the mapping. */
  offset: number;
}

export interface MappingEvents {
  /** The memory has been revoked. At most once. */
  revoked: [error: MappingRevokedError];
  /** An access faulted while the mapping was live, and completed without reaching the memory. */
  fault: [info: FaultInfo];
  /** Closed. At most once, and nothing after. */
  close: [];
}
