/** The constants of `node:os`, which is loaded when an error first needs one: a program that only imports the library starts sooner. */
import type { constants } from 'node:os';

export const osConstants = {
  get errno(): typeof constants.errno {
    return process.getBuiltinModule('node:os').constants.errno;
  },
  get signals(): typeof constants.signals {
    return process.getBuiltinModule('node:os').constants.signals;
  },
};
