/**
 * Memory and devices between processes, by the vfio-user protocol.
 *
 * @packageDocumentation
 */
export { serveMemory } from './served-memory.js';
export { connectMemory } from './connect-memory.js';
export { serve } from './served-device.js';
export { connect, ConnectedDevice } from './connected-device.js';
export { list } from './list.js';
export type { ListedServer } from './list.js';
export { Server } from './server.js';
export type { ServerEvents, ShareReport } from './server.js';
export type { ConnectOptions, Peer, ServeOptions, ShareOptions } from './share-options.js';
export { Ring } from './ring.js';
export type { RingOpenOptions, RingOptions, RingSpan, RingWaitOptions } from './ring.js';
export { Mutex, MutexHold } from './mutex.js';
export type { MutexOptions } from './mutex.js';
export { SharedStateError, ShareError } from '../errors.js';
export type { ShareErrorCode } from '../errors.js';
