// A model for Device.spawn: the edu card at the URL `model`, whose computations begin when their status is looked at for the first time. So
// that look sees them under way, however late it comes.
import { REGISTER } from '../../../examples/devices/edu.mjs';

export default async function lookedAt({ model, data }) {
  const options = (await import(model)).default(data);
  const { ops } = options;
  let begin = () => undefined;
  return {
    ...options,
    ops: {
      attach: (device) => ops.attach(device),
      writeRegister(...args) {
        if (args[0] === REGISTER.factorial) begin = () => ops.writeRegister(...args);
        else ops.writeRegister(...args);
      },
      readRegister(...args) {
        if (args[0] === REGISTER.status) {
          begin();
          begin = () => undefined;
        }
        return ops.readRegister(...args);
      },
    },
  };
}
