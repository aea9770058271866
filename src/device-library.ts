/** Devices, and what shares them with other processes, as one file, which is loaded when a program first uses one (`scripts/bundle.mjs`). */
export * as index from './device/index.js';
export * as share from './share/index.js';
export { runDeviceWorker } from './device/device-worker.js';
