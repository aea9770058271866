/** A driver for nic.mjs. Once the device is gone every call throws, or rejects with, MappingRevokedError or `ENODEV`; none waits for ever. */
import { CONTROL, DESCRIPTOR, FLAG, LONGEST_FRAME, REGISTER, RING, STATUS } from './nic.mjs';
import { oneByOne, within } from './waiting.mjs';

const LIMIT_MS = 10_000;
const BUFFER_SIZE = 2048;

export class NicDriver {
  #file;
  #registers;
  #memory;
  #send;
  #receive;
  #sending = oneByOne();
  #receiving = oneByOne();

  /** `descriptors` of each ring: one less can be under way at a time. */
  constructor(device, { descriptors = 8 } = {}) {
    this.#file = device.open();
    this.#registers = this.#file.map({ region: 'registers' });
    this.#memory = this.#file.map({ region: 'memory' });
    const ringBytes = descriptors * DESCRIPTOR.size;
    const bufferBytes = descriptors * BUFFER_SIZE;
    if (2 * (ringBytes + bufferBytes) > this.#memory.length) throw new RangeError(`no memory for two rings of ${descriptors}`);
    this.#send = { registers: REGISTER.send, base: 0, buffers: 2 * ringBytes, count: descriptors, next: 0 };
    this.#receive = {
      registers: REGISTER.receive,
      base: ringBytes,
      buffers: 2 * ringBytes + bufferBytes,
      count: descriptors,
      next: 0,
    };
    this.#start();
  }

  /** Sends a frame: waits until the ring has room for it, not until it has been sent. */
  async send(frame) {
    if (frame.byteLength === 0 || frame.byteLength > LONGEST_FRAME)
      throw new RangeError(`a frame has 1 to ${LONGEST_FRAME} bytes`);
    return this.#sending(async () => {
      await this.#until('room to send', () => this.room > 0);
      const { count, next } = this.#send;
      this.#memory.write(this.#bufferOf(this.#send, next), frame);
      this.#describe(this.#send, next, frame.byteLength);
      this.#send.next = (next + 1) % count;
      this.#moveTail(this.#send, this.#send.next);
      this.#registers.write32(REGISTER.doorbell, 1);
    });
  }

  /** The next frame that comes. */
  receive() {
    return this.#receiving(async () => {
      const { count, next } = this.#receive;
      const at = this.#descriptorOf(this.#receive, next);
      await this.#until('a frame', () => (this.#memory.read32(at + DESCRIPTOR.flags) & FLAG.done) !== 0);
      const frame = new Uint8Array(this.#memory.read32(at + DESCRIPTOR.length));
      this.#memory.read(this.#bufferOf(this.#receive, next), frame);
      this.#receive.next = (next + 1) % count;
      // Back to the card. It may fill those before it now: one always stays behind, or a full ring would look like an empty one.
      this.#describe(this.#receive, next, BUFFER_SIZE);
      this.#moveTail(this.#receive, next);
      return frame;
    });
  }

  /** How many frames can be sent without waiting. */
  get room() {
    const { next, count, registers } = this.#send;
    const head = this.#registers.read32(registers + RING.head);
    return (head - next - 1 + count) % count;
  }

  /** What the card has counted, and the errors it has reported. */
  get statistics() {
    const status = this.#registers.read32(REGISTER.status);
    return {
      sent: this.#registers.read32(REGISTER.sent),
      received: this.#registers.read32(REGISTER.received),
      dropped: this.#registers.read32(REGISTER.dropped),
      badDescriptor: (status & STATUS.badDescriptor) !== 0,
      badRing: (status & STATUS.badRing) !== 0,
    };
  }

  close() {
    this.#registers.close();
    this.#memory.close();
    this.#file.close();
  }

  #start() {
    this.#registers.write32(REGISTER.control, CONTROL.reset);
    for (const ring of [this.#send, this.#receive]) {
      this.#registers.write32(ring.registers + RING.base, ring.base);
      this.#registers.write32(ring.registers + RING.count, ring.count);
    }
    for (let i = 0; i < this.#receive.count; i++) this.#describe(this.#receive, i, BUFFER_SIZE);
    this.#moveTail(this.#receive, this.#receive.count - 1);
    this.#registers.write32(REGISTER.control, CONTROL.enable);
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

  /** Listens before it looks for the first time, so that no interrupt is missed. */
  #until(what, condition) {
    return within(LIMIT_MS, what, async (signal) => {
      const interrupts = this.#file.interrupts({ signal });
      while (!condition()) {
        await interrupts.next();
        this.#registers.write32(REGISTER.cause, this.#registers.read32(REGISTER.cause));
      }
    });
  }
}
