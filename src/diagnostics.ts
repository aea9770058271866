/**
 * Observation of the library: four diagnostics channels, and `NODE_DEBUG=revocable-mmap`, which prints them.
 */
import type { Channel } from 'node:diagnostics_channel';
import { debuglog } from 'node:util';

const debug = debuglog('revocable-mmap');

interface Channels {
  map: Channel;
  revoke: Channel;
  fault: Channel;
  close: Channel;
}

let channels: Channels | undefined;

/** Loaded with the first message: a program that only imports the library starts sooner by it. */
function openChannels(): Channels {
  const { channel } = process.getBuiltinModule('node:diagnostics_channel');
  const open = (name: keyof Channels): Channel => channel(`revocable-mmap:${name}`);
  return { map: open('map'), revoke: open('revoke'), fault: open('fault'), close: open('close') };
}

/** Publishes `message()` on a channel, composed only when there is a subscriber. */
export function publish(channel: keyof Channels, message: () => object): void {
  if (debug.enabled) debug('%s %o', channel, message());
  channels ??= openChannels();
  if (channels[channel].hasSubscribers) channels[channel].publish(message());
}
