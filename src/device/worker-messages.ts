/** What a spawned device's worker and the thread that spawned it say to each other. */
import { DeviceOpError, systemError } from '../errors.js';
import type { DeviceFaultInfo, RemovalReport } from './device-types.js';
import type { DmaAccess } from './dma.js';
import type { CheckedPci, CheckedPlace } from './pci-options.js';
import { bareMessage, isSystemError, messageOf, syscallOf } from './device-errors.js';

export interface SpawnData {
  model: string;
  data: unknown;
}

/** To the worker. Those with an id are answered. */
export type Request =
  | { type: 'read'; id: number; file: number; length: number; position: number }
  | { type: 'write'; id: number; file: number; source: Uint8Array; position: number }
  | { type: 'ioctl'; id: number; file: number; command: number; argument: unknown }
  | { type: 'poll'; id: number; file: number }
  | { type: 'drain'; id: number; region: number }
  | { type: 'remove'; id: number }
  | { type: 'dma-map'; id: number; range: DmaNotice }
  | { type: 'dma-unmap'; id: number; key: number }
  | { type: 'dma-answer'; of: number; bytes?: Uint8Array; error?: ErrorNotice }
  | { type: 'unplug' }
  | { type: 'cancel'; of: number }
  | { type: 'raise'; vector: number }
  | { type: 'notify' };

/** From the worker, in a {@link Tagged}. */
export type Notice =
  | {
      type: 'ready';
      device: number;
      name: string;
      opTimeout: number;
      counts: Float64Array;
      regions: RegionNotice[];
      pci: CheckedPci | undefined;
    }
  | { type: 'answer'; id: number; value?: unknown; error?: ErrorNotice }
  | { type: 'interrupt'; vector: number }
  | { type: 'notify' }
  | { type: 'dma-read'; of: number; key: number; offset: number; length: number }
  | { type: 'dma-write'; of: number; key: number; offset: number; bytes: Uint8Array }
  | { type: 'remove-requested' }
  | { type: 'fault'; info: Omit<DeviceFaultInfo, 'error'>; error?: ErrorNotice }
  | { type: 'gone' }
  | { type: 'removed'; report: RemovalReport };

/** A range of the device's DMA memory. */
export interface DmaNotice {
  key: number;
  address: number;
  length: number;
  access: DmaAccess;
  /** -1 where each access is to be asked for. */
  object: number;
  offset: number;
  gate: Uint8Array | undefined;
}

export interface RegionNotice {
  name: string;
  size: number;
  kind: 'memory' | 'registers';
  place: CheckedPlace;
  object: number;
}

/** The model shares its worker's port: what it posts there is no notice. */
export interface Tagged {
  revocableMmapDevice: Notice;
}

export function tagged(notice: Notice): Tagged {
  return { revocableMmapDevice: notice };
}

/** Undefined where the message is the model's own. */
export function noticeIn(message: unknown): Notice | undefined {
  if (typeof message !== 'object' || message === null) return undefined;
  const notice: unknown = (message as Partial<Tagged>).revocableMmapDevice;
  return typeof notice === 'object' && notice !== null ? (notice as Notice) : undefined;
}

/** An error without its class, which structured clones lose. */
export interface ErrorNotice {
  message: string;
  errno?: number;
  syscall?: string;
}

export function describeError(error: unknown): ErrorNotice {
  if (isSystemError(error)) return { message: messageOf(error), errno: error.errno, syscall: syscallOf(error, 'device') };
  return { message: bareMessage(error) };
}

export function revivedError(notice: ErrorNotice, device: string, op: string): Error {
  if (notice.errno !== undefined) return systemError({ errno: notice.errno, syscall: notice.syscall! });
  return new DeviceOpError(device, op, notice.message);
}
