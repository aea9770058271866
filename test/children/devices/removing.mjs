// A model for Device.spawn that removes its own device: the model at the URL `model`, unplugged from inside its op number `at`, before that answers.
const ALWAYS = ['open', 'mmap'];
/** Where the model has them. */
const OPS = ['fault', 'pageMkwrite', 'ioctl', 'readRegister', 'writeRegister'];

export default async function removing({ model, data, at }) {
  const options = (await import(model)).default(data);
  const { ops } = options;
  let device;
  let calls = 0;
  const wrapped = {
    attach(attached) {
      device = attached;
      ops.attach(attached);
    },
  };
  for (const name of [...ALWAYS, ...OPS.filter((op) => ops[op] !== undefined)]) {
    wrapped[name] = (...args) => {
      if (++calls === at) void device.unplug();
      return ops[name]?.(...args);
    };
  }
  return { ...options, ops: wrapped };
}
