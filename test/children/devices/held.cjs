// A device whose ops answer, well, when `data.flags[0]` is set, whatever happens meanwhile; but for those that ioctl's command names, which
// begin its removal: { how: 'unplug' | 'remove', by: 'timer' | 'listener' | 'op that waits' | 'op that goes on' }. Command 2 never ends.
const PAGE = 4096;

module.exports = ({ flags: buffer, opTimeout }) => {
  const flags = new Int32Array(buffer);
  let device;
  const held = async (answer) => {
    Atomics.add(flags, 1, 1);
    while (Atomics.load(flags, 0) === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    Atomics.add(flags, 2, 1);
    return answer;
  };
  const removals = { unplug: () => device.unplug(), remove: () => device.remove({ timeout: 20 }) };
  return {
    name: 'held',
    opTimeout,
    regions: [{ name: 'ram', size: 8 * PAGE }],
    ops: {
      attach: (made) => void (device = made),
      fault: () => held(new Uint8Array(PAGE).fill(7)),
      read: (_file, target) => held(target.fill(7).length),
      write: (_file, source) => held(source.length),
      poll: () => (Atomics.load(flags, 0) === 0 ? 0 : 1),
      close: () => void Atomics.add(flags, 3, 1),
      async ioctl(_file, command, argument) {
        if (command === 0) return held(argument);
        if (command === 2) for (;;) Atomics.store(flags, 1, 1);
        const { how, by } = argument;
        if (by === 'timer') setTimeout(removals[how], 1);
        else if (by === 'listener') device.region(0).memory.on('close', removals[how]).close();
        else if (by === 'op that waits') await removals[how]();
        else void removals[how]();
        return by === 'op that goes on' ? held('done') : 'done';
      },
    },
  };
};
