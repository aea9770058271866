/** What a device tells of itself: its state, its events, and the report of its removal. */
import type { RevokeReport } from '../memory/revoke-report.js';

export type DeviceState = 'live' | 'suspended' | 'removed';

/** What a removal did. */
export interface RemovalReport {
  /** Name of the device. */
  device: string;
  /** True if this call removed it. */
  removedByThisCall: boolean;
  /** One for each region, in order. */
  regions: RevokeReport[];
  /** Mappings that were open. */
  mappings: number;
  /** Files that were open. */
  files: number;
  /** Ops that had not settled when their time was up: what they answer is discarded. */
  abandonedOps: number;
}

/** A fault op, or another op without a caller, that did not do its work. */
export interface DeviceFaultInfo {
  op: string;
  /** `'failed'`: it threw `error`. `'no-answer'`: its time was up. `'refused'`: it answered `'sigbus'`. */
  cause: 'failed' | 'no-answer' | 'refused';
  error?: unknown;
  /** The page, where it was asked for one. */
  region?: number;
  index?: number;
  thread?: number;
}

export interface DeviceEvents {
  /** `remove()` was called: let go of files and mappings. */
  'remove-requested': [];
  suspended: [];
  resumed: [];
  fault: [info: DeviceFaultInfo];
  /** It is gone. Once, and nothing after. */
  removed: [report: RemovalReport];
}

/** What another thread that uses the device is notified of. */
export interface DeviceClient {
  raise(vector: number): void;
  notify(): void;
  removeRequested(): void;
  fault(info: DeviceFaultInfo): void;
  /** The gate has been shut. */
  gone(): void;
  /** The removal is complete: the last notification. */
  removed(report: RemovalReport): void;
}
