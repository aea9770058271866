/**
 * A network card with a ring of descriptors to send by, and one to receive by, in memory that it shares with its driver. Its plug loops
 * back: what is sent is received.
 *
 *     const device = await Device.spawn(new URL('./nic.mjs', import.meta.url));
 *
 * The driver fills descriptors, moves the ring's tail behind them, and rings the doorbell. The card works through them from the head on,
 * marks each, moves the head, and raises an interrupt. Head and tail are equal when the card has nothing to do, so a ring of n descriptors
 * holds n - 1 at a time.
 */
export const REGISTER = {
  /** See CONTROL. */
  control: 0x00,
  /** See STATUS. Writing ones clears errors. */
  status: 0x04,
  /** See CAUSE: what interrupts were raised for. Writing ones clears. */
  cause: 0x08,
  /** Writing anything makes the card look at the ring to send by. */
  doorbell: 0x0c,
  /** Frames sent, received, and dropped because no descriptor was free to receive them. Read only. */
  sent: 0x10,
  received: 0x14,
  dropped: 0x18,
  /** Where the registers of the two rings begin; see RING. */
  send: 0x40,
  receive: 0x60,
};
/** Registers of a ring: where in the memory it begins, how many descriptors it has; the card moves the head, the driver the tail. */
export const RING = { base: 0x00, count: 0x04, head: 0x08, tail: 0x0c };
export const CONTROL = { enable: 0x1, reset: 0x2 };
export const STATUS = { enabled: 0x1, badDescriptor: 0x100, badRing: 0x200 };
export const CAUSE = { sent: 0x1, received: 0x2, error: 0x4, dropped: 0x8 };

/** Four words of 32 bits: where the frame is, how many bytes (to receive: how many there is room for, then how many came), flags, nothing. */
export const DESCRIPTOR = { size: 16, address: 0, length: 4, flags: 8 };
export const FLAG = { done: 0x1, error: 0x2 };
/** Ethernet's. */
export const LONGEST_FRAME = 1518;

/**
 * @param {object} [data]
 * @param {string} [data.name]
 * @param {number} [data.memorySize] bytes that card and driver share
 */
export default function nic({ name = 'nic', memorySize = 256 * 1024 } = {}) {
  return {
    name,
    regions: [
      { name: 'registers', size: 4096, kind: 'registers' },
      { name: 'memory', size: memorySize },
    ],
    ops: new Nic(),
  };
}

class Nic {
  #device;
  #memory;
  #errors = 0;
  #cause = 0;
  #enabled = false;
  #awake = false;
  #counters = { sent: 0, received: 0, dropped: 0 };
  #send = emptyRing();
  #receive = emptyRing();

  attach(device) {
    this.#device = device;
    this.#memory = device.region('memory').memory;
  }

  readRegister(offset, width) {
    if (width !== 4) return -1;
    const ring = this.#ringAt(offset);
    if (ring !== undefined) return ring[RING_FIELDS[offset & 0x1f]] ?? -1;
    switch (offset) {
      case REGISTER.control:
        return this.#enabled ? CONTROL.enable : 0;
      case REGISTER.status:
        return this.#errors | (this.#enabled ? STATUS.enabled : 0);
      case REGISTER.cause:
        return this.#cause;
      case REGISTER.sent:
        return this.#counters.sent;
      case REGISTER.received:
        return this.#counters.received;
      case REGISTER.dropped:
        return this.#counters.dropped;
      default:
        return -1;
    }
  }

  writeRegister(offset, width, value) {
    if (width !== 4) return;
    const ring = this.#ringAt(offset);
    if (ring !== undefined) return writeRing(ring, offset & 0x1f, value);
    switch (offset) {
      case REGISTER.control:
        return this.#control(value);
      case REGISTER.status:
        this.#errors &= ~value;
        return;
      case REGISTER.cause:
        this.#cause &= ~value;
        return;
      case REGISTER.doorbell:
        return this.#wake();
    }
  }

  #ringAt(offset) {
    const block = offset & ~0x1f;
    return block === REGISTER.send ? this.#send : block === REGISTER.receive ? this.#receive : undefined;
  }

  #control(value) {
    this.#enabled = (value & CONTROL.enable) !== 0;
    if ((value & CONTROL.reset) === 0) return;
    this.#errors = this.#cause = 0;
    this.#counters = { sent: 0, received: 0, dropped: 0 };
    this.#send = emptyRing();
    this.#receive = emptyRing();
  }

  #interrupt(cause) {
    this.#cause |= cause;
    this.#device.raise();
  }

  #fail(error) {
    this.#errors |= error;
    this.#interrupt(CAUSE.error);
  }

  /** The card works on its own: ringing the doorbell does not wait for it. */
  #wake() {
    if (this.#awake) return;
    this.#awake = true;
    setImmediate(() => this.#work());
  }

  #work() {
    this.#awake = false;
    try {
      if (!this.#enabled || !this.#check(this.#send)) return;
      // As many as there are now: those that follow have rung for themselves.
      for (let left = waiting(this.#send); left > 0; left--) this.#sendNext();
    } catch (error) {
      // Removed meanwhile: the card's memory has gone, and no caller waits for it.
      if (this.#device.state !== 'removed') throw error;
    }
  }

  /** What the driver says about a ring is used only if it makes sense. */
  #check(ring) {
    const end = ring.base + ring.count * DESCRIPTOR.size;
    const fits = ring.base % DESCRIPTOR.size === 0 && end <= this.#memory.length;
    if (fits && ring.count >= 2 && ring.tail < ring.count) return true;
    this.#fail(STATUS.badRing);
    return false;
  }

  #sendNext() {
    const { at, address, length } = this.#take(this.#send);
    if (length === 0 || length > LONGEST_FRAME || address + length > this.#memory.length) {
      this.#giveBack(this.#send, at, length, FLAG.done | FLAG.error);
      return this.#fail(STATUS.badDescriptor);
    }
    const frame = new Uint8Array(length);
    this.#memory.read(address, frame);
    this.#giveBack(this.#send, at, length, FLAG.done);
    this.#counters.sent++;
    this.#interrupt(CAUSE.sent);
    this.#loopBack(frame);
  }

  #loopBack(frame) {
    if (!this.#check(this.#receive) || waiting(this.#receive) === 0) return this.#drop();
    const { at, address, length } = this.#take(this.#receive);
    if (frame.length > length || address + length > this.#memory.length) {
      this.#giveBack(this.#receive, at, 0, FLAG.done | FLAG.error);
      this.#fail(STATUS.badDescriptor);
      return this.#drop();
    }
    this.#memory.write(address, frame);
    this.#giveBack(this.#receive, at, frame.length, FLAG.done);
    this.#counters.received++;
    this.#interrupt(CAUSE.received);
  }

  #drop() {
    this.#counters.dropped++;
    this.#interrupt(CAUSE.dropped);
  }

  /** Reads the descriptor at the head. Each word once: the driver may change it at any time, also between a check and the use. */
  #take(ring) {
    const at = ring.base + ring.head * DESCRIPTOR.size;
    const address = this.#memory.read32(at + DESCRIPTOR.address);
    return { at, address, length: this.#memory.read32(at + DESCRIPTOR.length) };
  }

  /** The flags last: a reader that sees them sees the rest. */
  #giveBack(ring, at, length, flags) {
    this.#memory.write32(at + DESCRIPTOR.length, length);
    this.#memory.write32(at + DESCRIPTOR.flags, flags);
    ring.head = (ring.head + 1) % ring.count;
  }
}

const RING_FIELDS = Object.fromEntries(Object.entries(RING).map(([field, offset]) => [offset, field]));

function emptyRing() {
  return { base: 0, count: 0, head: 0, tail: 0 };
}

function writeRing(ring, offset, value) {
  const field = RING_FIELDS[offset];
  if (field === undefined || field === 'head') return;
  ring[field] = value;
  // A ring that is moved or resized begins anew.
  if (field !== 'tail') ring.head = ring.tail = 0;
}

function waiting(ring) {
  return (ring.tail - ring.head + ring.count) % ring.count;
}
