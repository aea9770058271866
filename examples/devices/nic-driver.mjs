/**
 * A driver for nic.mjs. Once the device is gone every call throws, or rejects with, MappingRevokedError or `ENODEV`; none waits for ever.
 *
 * It reaches the registers in one of three ways, and the card sees the same accesses: `device.trace()` of each is the same text.
 */
import { CONTROL, DESCRIPTOR, FLAG, LONGEST_FRAME, REGISTER, RING, STATUS } from './nic.mjs';
import { memoryOf, programIn } from './programs.mjs';
import { answered, RawRegisters } from './registers.mjs';
import { oneByOne, within } from './waiting.mjs';

const LIMIT_MS = 10_000;
const BUFFER_SIZE = 2048;

export class NicDriver {
  #file;
  #mappings;
  #rings;
  #sending = oneByOne();
  #receiving = oneByOne();

  /**
   * @param {object} [options]
   * @param {number} [options.descriptors] of each ring: one less can be under way at a time
   * @param {'checked' | 'raw' | 'webassembly'} [options.registers] how the registers are reached: by checked accessors, by typed arrays, or
   *   by a program in WebAssembly, which works on the rings as well. The last two are for a device whose ops run in another thread: this
   *   one could not answer itself.
   */
  constructor(device, { descriptors = 8, registers = 'checked' } = {}) {
    this.#file = device.open();
    [this.#mappings, this.#rings] = WAYS[registers](this.#file);
    const [, memory] = this.#mappings;
    if (2 * descriptors * (DESCRIPTOR.size + BUFFER_SIZE) > memory.length)
      throw new RangeError(`no memory for two rings of ${descriptors}`);
    this.#rings.start(descriptors);
  }

  /** Sends a frame: waits until the ring has room for it, not until it has been sent. */
  async send(frame) {
    if (frame.byteLength === 0 || frame.byteLength > LONGEST_FRAME)
      throw new RangeError(`a frame has 1 to ${LONGEST_FRAME} bytes`);
    return this.#sending(async () => {
      await this.#until('room to send', () => this.room > 0);
      this.#rings.send(frame);
    });
  }

  /** The next frame that comes. */
  receive() {
    return this.#receiving(async () => {
      let frame;
      await this.#until('a frame', () => (frame = this.#rings.receive()) !== undefined);
      return frame;
    });
  }

  /** How many frames can be sent without waiting. */
  get room() {
    return this.#rings.room();
  }

  /** What the card has counted, and the errors it has reported. */
  get statistics() {
    const status = this.#rings.status();
    return {
      sent: this.#rings.sent(),
      received: this.#rings.received(),
      dropped: this.#rings.dropped(),
      badDescriptor: (status & STATUS.badDescriptor) !== 0,
      badRing: (status & STATUS.badRing) !== 0,
    };
  }

  close() {
    for (const mapping of this.#mappings) mapping.close();
    this.#file.close();
  }

  /** Listens before it looks for the first time, so that no interrupt is missed. */
  #until(what, condition) {
    return within(LIMIT_MS, what, async (signal) => {
      const interrupts = this.#file.interrupts({ signal });
      while (!condition()) {
        await interrupts.next();
        this.#rings.acknowledge();
      }
    });
  }
}

const REGISTERS = { region: 'registers', fill: 'ones' };
const MEMORY = { region: 'memory', fill: 'ones' };

/** Each gives the mappings of registers and memory, and what the driver does with them. */
const WAYS = {
  checked(file) {
    const [registers, memory] = [file.map(REGISTERS), file.map(MEMORY)];
    return [[registers, memory], new NicRings(registers, memory)];
  },
  raw(file) {
    const [registers, memory] = [file.map(REGISTERS), file.map(MEMORY)];
    return [[registers, memory], new NicRings(new RawRegisters(registers), memory)];
  },
  webassembly(file) {
    const own = memoryOf(0x20000 + file.device.region('memory').size);
    const registers = file.map({ ...REGISTERS, memory: own, memoryOffset: 0x10000 });
    const memory = file.map({ ...MEMORY, memory: own, memoryOffset: 0x20000 });
    return [[registers, memory], new NicProgram(registers, memory, own)];
  },
};

/** By `read32` and `write32` of the registers, and checked accesses to the memory. */
class NicRings {
  #registers;
  #memory;
  #send;
  #receive;

  constructor(registers, memory) {
    this.#registers = registers;
    this.#memory = memory;
  }

  /** Resets the card, gives it both rings and all buffers to receive into but one, and enables it. */
  start(descriptors) {
    const ringBytes = descriptors * DESCRIPTOR.size;
    const [count, next] = [descriptors, 0];
    this.#send = { registers: REGISTER.send, base: 0, buffers: 2 * ringBytes, count, next };
    const buffers = this.#send.buffers + descriptors * BUFFER_SIZE;
    this.#receive = { registers: REGISTER.receive, base: ringBytes, buffers, count, next };
    this.#registers.write32(REGISTER.control, CONTROL.reset);
    for (const ring of [this.#send, this.#receive]) {
      this.#registers.write32(ring.registers + RING.base, ring.base);
      this.#registers.write32(ring.registers + RING.count, ring.count);
    }
    for (let i = 0; i < count; i++) this.#describe(this.#receive, i, BUFFER_SIZE);
    this.#moveTail(this.#receive, count - 1);
    this.#registers.write32(REGISTER.control, CONTROL.enable);
  }

  room() {
    const { next, count, registers } = this.#send;
    const head = this.#registers.read32(registers + RING.head);
    return (head - next - 1 + count) % count;
  }

  /** There is room for it. */
  send(frame) {
    const { count, next } = this.#send;
    this.#memory.write(this.#bufferOf(this.#send, next), frame);
    this.#describe(this.#send, next, frame.byteLength);
    this.#send.next = (next + 1) % count;
    this.#moveTail(this.#send, this.#send.next);
    this.#registers.write32(REGISTER.doorbell, 1);
  }

  /** Undefined when none has come. */
  receive() {
    const { count, next } = this.#receive;
    const at = this.#descriptorOf(this.#receive, next);
    if ((this.#memory.read32(at + DESCRIPTOR.flags) & FLAG.done) === 0) return undefined;
    const frame = new Uint8Array(this.#memory.read32(at + DESCRIPTOR.length));
    this.#memory.read(this.#bufferOf(this.#receive, next), frame);
    this.#receive.next = (next + 1) % count;
    // Back to the card. It may fill those before it now: one always stays behind, or a full ring would look like an empty one.
    this.#describe(this.#receive, next, BUFFER_SIZE);
    this.#moveTail(this.#receive, next);
    return frame;
  }

  /** Clears what interrupts were raised for. */
  acknowledge() {
    this.#registers.write32(REGISTER.cause, this.#registers.read32(REGISTER.cause));
  }

  status() {
    return this.#registers.read32(REGISTER.status);
  }

  sent() {
    return this.#registers.read32(REGISTER.sent);
  }

  received() {
    return this.#registers.read32(REGISTER.received);
  }

  dropped() {
    return this.#registers.read32(REGISTER.dropped);
  }

  #describe(ring, index, length) {
    const at = this.#descriptorOf(ring, index);
    this.#memory.write32(at + DESCRIPTOR.address, this.#bufferOf(ring, index));
    this.#memory.write32(at + DESCRIPTOR.length, length);
    this.#memory.write32(at + DESCRIPTOR.flags, 0);
  }

  #descriptorOf(ring, index) {
    return ring.base + index * DESCRIPTOR.size;
  }

  #bufferOf(ring, index) {
    return ring.buffers + index * BUFFER_SIZE;
  }

  #moveTail(ring, index) {
    this.#registers.write32(ring.registers + RING.tail, index);
  }
}

/** By nic-driver.wat, which has the same functions. It knows nothing of a card that is gone: what it returns is believed only if that is there. */
class NicProgram {
  #memory;
  #program;
  #frame;

  constructor(registers, memory, own) {
    this.#memory = memory;
    this.#program = programIn(own, 'nic-driver');
    this.#frame = new Uint8Array(own.buffer, 0, BUFFER_SIZE);
    this.start = this.#program.start;
    for (const name of ['room', 'acknowledge', 'status', 'sent', 'received', 'dropped'])
      this[name] = () => answered(registers, this.#program[name]());
  }

  send(frame) {
    this.#frame.set(frame);
    this.#program.send(frame.byteLength);
  }

  receive() {
    const length = this.#program.receive();
    if (length === 0) return undefined;
    this.#memory.check(); // what has been copied may have been the fill
    if (length < 0) throw new Error('the network card gives a frame back that has no length');
    return this.#frame.slice(0, length);
  }
}
