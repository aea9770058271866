/** A client of the protocol that sends what a test says, through the addon: Node's own sockets carry no descriptors. */
import { encodeVersion, type OwnCapability } from '../../src/share/version.js';
import * as wire from '../../src/share/wire.js';
import { MessageReader } from '../../src/share/message-reader.js';
import { MOST_DESCRIPTORS, RECEIVED } from '../../src/native/socket-functions.js';
import { until } from './until.js';

const { native } = require('../../dist/native/load.js') as typeof import('../../src/native/load.js');

const { prepare } = require('../../dist/thread/wakeups.js') as typeof import('../../src/thread/wakeups.js');

export interface RawClient {
  /** The reply, of whichever error. */
  ask(command: number, body?: Uint8Array, descriptors?: Int32Array): Promise<wire.Message>;
  /** How many descriptors came with the last reply. */
  descriptors(): number;
  /** Takes over the descriptors of the next reply, which are closed else. */
  keep(): void;
  kept: number[];
  /** Assigns an eventfd to each of so many vectors. */
  assign(index: number, start: number, count: number): Promise<number[]>;
  /** How often an eventfd was signalled since the last time. */
  taken(eventfd: number): number;
  end(): void;
}

export async function rawClient(path: string, maxData = 1 << 20, own?: OwnCapability): Promise<RawClient> {
  prepare();
  const socket = native.socketConnect(Buffer.from(path));
  if (typeof socket !== 'number') throw new Error(`errno ${socket.errno}`);
  const reader = new MessageReader(2 << 20);
  const received = new Int32Array(RECEIVED.size + MOST_DESCRIPTORS);
  const eventfds: number[] = [];
  let id = 0;
  let last = 0;
  let over = false;
  let keeping = false;
  const kept: number[] = [];

  const read = (): wire.Message | undefined => {
    for (;;) {
      const count = native.socketReceive(socket, reader.buffer, reader.have, received, 0);
      if (typeof count !== 'number') return undefined;
      if (count === 0) throw new Error('the server has ended the connection');
      const fds = Array.from(received.subarray(RECEIVED.size, RECEIVED.size + received[RECEIVED.count]));
      const message = reader.filled(count, fds);
      if (message !== undefined) return { ...message, body: message.body.slice() };
    }
  };
  const ask = async (command: number, body?: Uint8Array, descriptors = new Int32Array(0)): Promise<wire.Message> => {
    const bytes = wire.encode({ id: ++id, command }, body);
    if (native.socketSend(socket, bytes, descriptors) !== bytes.byteLength) throw new Error('the server takes no more');
    let reply: wire.Message | undefined;
    await until(`command ${command} is answered`, () => (reply = read()) !== undefined);
    if (reply!.id !== id || reply!.command !== command || !reply!.reply) throw new Error('that is no reply to it');
    last = reply!.descriptors.length;
    if (keeping) kept.push(...reply!.descriptors);
    else for (const fd of reply!.descriptors) native.closeDescriptor(fd);
    keeping = false;
    return reply!;
  };

  const version = { major: 0, minor: 0, maxDescriptors: 64, maxData, writeMultiple: true, own };
  await ask(wire.COMMANDS.version, encodeVersion(version));
  return {
    ask,
    descriptors: () => last,
    keep: () => void (keeping = true),
    kept,
    async assign(index, start, count) {
      const made = Array.from({ length: count }, () => native.eventfdWatched() as number);
      eventfds.push(...made);
      const set = { index, start, count, data: 'eventfd', action: 'trigger', chosen: new Uint8Array(0) } as const;
      const fds = Int32Array.from(made, (eventfd) => native.socketDescriptor(eventfd));
      const { errno } = await ask(wire.COMMANDS.setIrqs, wire.encodeIrqSet(set), fds);
      if (errno !== 0) throw new Error(`errno ${errno}`);
      return made;
    },
    taken: (eventfd) => native.eventfdTake(eventfd),
    end() {
      if (over) return;
      over = true;
      for (const fd of kept) native.closeDescriptor(fd);
      for (const eventfd of [...eventfds, socket]) native.socketClose(eventfd);
    },
  };
}
