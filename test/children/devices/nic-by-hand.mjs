// The network card of examples/devices programmed register by register: rings of four, the one to send by at 0, the other at 0x400.
const RINGS = { send: { registers: 0x40, base: 0 }, receive: { registers: 0x60, base: 0x400 } };

export function byHand(file) {
  const registers = file.map({ region: 'registers' });
  const memory = file.map({ region: 'memory' });
  return {
    registers,
    memory,
    /** Fills the ring with [address, length] from the start, and moves its tail behind them. */
    describe(which, descriptors) {
      const { registers: at, base } = RINGS[which];
      registers.write32(at, base);
      registers.write32(at + 0x04, 4);
      descriptors.forEach(([address, length], i) => {
        memory.write32(base + 16 * i, address);
        memory.write32(base + 16 * i + 4, length);
        memory.write32(base + 16 * i + 8, 0);
      });
      registers.write32(at + 0x0c, descriptors.length);
    },
    enable: () => registers.write32(0x00, 1),
    ring: () => registers.write32(0x0c, 1),
    /** [sent, received, dropped] */
    counters: () => [0x10, 0x14, 0x18].map((at) => registers.read32(at)),
    heads: () => [registers.read32(0x48), registers.read32(0x68)],
    flags: (which, index) => memory.read32(RINGS[which].base + 16 * index + 8),
  };
}
