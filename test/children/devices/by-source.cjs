// A device for Device.spawn whose ops are given as source text: what they throw and answer cannot all be cloned.
const { parentPort } = require('node:worker_threads');
const { deviceError } = require('revocable-mmap');

module.exports = ({ first, ops, opTimeout, name = 'odd', region = 'ram', memory = 1, pages = 1 }) => {
  if (first !== undefined) new Function('port', first)(parentPort);
  return {
    name,
    opTimeout,
    regions: [
      ...Array.from({ length: memory }, (_, i) => ({ name: i === 0 ? region : `ram${i}`, size: (i === 0 ? 1 : pages) * 4096 })),
      { name: 'regs', size: 4096, kind: 'registers' },
    ],
    ops: new Function('port', 'deviceError', 'require', `return ({ ${ops ?? ''} });`)(parentPort, deviceError, require),
  };
};
