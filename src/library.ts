/**
 * All of the library as one file (`scripts/bundle.mjs`): the entry points are parts of it, so that classes exist once, and a program
 * that imports the library loads one module instead of sixty.
 */
export * as index from './index.js';
export * as device from './device/index.js';
export * as bench from './bench/index.js';
export { runDeviceWorker } from './device/device-worker.js';

/** What the library's own tests look at; no entry point has it. */
export * as load from './native/load.js';
export * as wakeups from './thread/wakeups.js';
export * as emitLater from './thread/emit-later.js';
