/**
 * Observation of the library: four diagnostics channels, and `NODE_DEBUG=revocable-mmap`, which prints them.
 */
import diagnosticsChannel from 'node:diagnostics_channel';
import { debuglog } from 'node:util';

const debug = debuglog('revocable-mmap');

const channels = {
  map: diagnosticsChannel.channel('revocable-mmap:map'),
  revoke: diagnosticsChannel.channel('revocable-mmap:revoke'),
  fault: diagnosticsChannel.channel('revocable-mmap:fault'),
  close: diagnosticsChannel.channel('revocable-mmap:close'),
};

/** Publishes `message()` on a channel, composed only when there is a subscriber. */
export function publish(channel: keyof typeof channels, message: () => object): void {
  if (debug.enabled) debug('%s %o', channel, message());
  if (channels[channel].hasSubscribers) channels[channel].publish(message());
}
