// Pseudo-random numbers that can be had again from their seed (mulberry32).
exports.random = (seed) => {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
};

/** The seed given on the command line, or a new one. */
exports.seedFrom = (argument) => (argument === undefined ? (Math.random() * 0xffffffff) >>> 0 : Number(argument));

/** Passes time without the clock's help: some nanoseconds a step. */
exports.spin = (steps) => {
  let sum = 0;
  for (let i = 0; i < steps; i++) sum += i & 3;
  return sum;
};
