/**
 * The library without devices, as one file (`scripts/bundle.mjs`, docs/decisions/010-one-file.md): a program that imports the library
 * loads one module instead of sixty. What the other files, and the library's own tests, need of it are `modules`.
 */
import * as args from './arguments.js';
import * as brands from './brands.js';
import * as errors from './errors.js';
import * as osConstants from './os-constants.js';
import * as addonError from './native/addon-error.js';
import * as enums from './native/enums.js';
import * as functions from './native/functions.js';
import * as load from './native/load.js';
import * as socketFunctions from './native/socket-functions.js';
import * as sharedState from './native/shared-state.js';
import * as emitLater from './thread/emit-later.js';
import * as wakeups from './thread/wakeups.js';
import * as backingProvider from './memory/backing-provider.js';
import * as futexWaits from './memory/futex-waits.js';
import * as mapOptions from './memory/map-options.js';
import * as mapping from './memory/mapping.js';
import * as memoryObject from './memory/memory-object.js';
import * as objectOptions from './memory/object-options.js';
import * as revokeReport from './memory/revoke-report.js';

export * as index from './index.js';

export const modules = {
  arguments: args,
  brands,
  errors,
  'os-constants': osConstants,
  'native/addon-error': addonError,
  'native/enums': enums,
  'native/functions': functions,
  'native/load': load,
  'native/socket-functions': socketFunctions,
  'native/shared-state': sharedState,
  'thread/emit-later': emitLater,
  'thread/wakeups': wakeups,
  'memory/backing-provider': backingProvider,
  'memory/futex-waits': futexWaits,
  'memory/map-options': mapOptions,
  'memory/mapping': mapping,
  'memory/memory-object': memoryObject,
  'memory/object-options': objectOptions,
  'memory/revoke-report': revokeReport,
};

// A thread gets hold of a device's memory without a word about devices: by the handle of a mapping. What is loaded then registers a
// provider of its own, which is asked next.
backingProvider.registerBackingProvider((objectId) => {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- when it is needed, and not before
  if (load.native.objectDevice(objectId) !== null) require('./device.js');
  return undefined;
});
