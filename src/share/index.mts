// The ES module is a window on the CommonJS one, so that a process that uses both has one library, not two.
export * from './index.js';
