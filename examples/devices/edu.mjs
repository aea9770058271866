/**
 * QEMU's `edu` device, a card for learning to write drivers, as its specification describes it: docs/specs/edu.rst in QEMU's sources.
 *
 *     const device = await Device.spawn(new URL('./edu.mjs', import.meta.url)); // in a worker
 *     const device = new Device(edu());                                         // in this thread
 *
 * The host's memory is a second region, `ram`: an offset in it is the bus address that DMA uses. Interrupts are messages, as with MSI:
 * vector 0, one for each value that is raised.
 */
import { setTimeout as sleep } from 'node:timers/promises';

export const REGISTER = {
  identification: 0x00,
  liveness: 0x04,
  factorial: 0x08,
  status: 0x20,
  interruptStatus: 0x24,
  interruptRaise: 0x60,
  interruptAcknowledge: 0x64,
  dmaSource: 0x80,
  dmaDestination: 0x88,
  dmaCount: 0x90,
  dmaCommand: 0x98,
};
export const STATUS = { computing: 0x01, raiseInterrupt: 0x80 };
export const DMA = { start: 0x01, toRam: 0x02, raiseInterrupt: 0x04 };
export const INTERRUPT = { factorial: 0x001, dma: 0x100 };
export const DMA_BUFFER = { offset: 0x40000, size: 4096 };

const BAR_SIZE = 1024 * 1024;
const IDENTIFICATION = 0x010000ed;
/** What a read gives that no register answers. */
const ALL_ONES = -1;

/**
 * @param {object} [data]
 * @param {string} [data.name]
 * @param {number} [data.ramSize] bytes of the host's memory
 * @param {number} [data.dmaMask] which bits of a bus address the card can drive; 28 of them, as QEMU's
 * @param {number} [data.delay] milliseconds that a factorial and a transfer take
 */
export default function edu({ name = 'edu', ramSize = 1024 * 1024, dmaMask = 0x0fff_ffff, delay = 1 } = {}) {
  return {
    name,
    regions: [
      { name: 'bar0', size: BAR_SIZE, kind: 'registers' },
      { name: 'ram', size: ramSize },
    ],
    ops: new Edu(BigInt(dmaMask), delay),
  };
}

class Edu {
  #device;
  #ram;
  #liveness = 0;
  #factorial = 0;
  #status = 0;
  #interrupts = 0;
  #dma = { source: 0n, destination: 0n, count: 0n, command: 0 };
  #buffer = new Uint8Array(DMA_BUFFER.size);
  #dmaMask;
  #delay;

  constructor(dmaMask, delay) {
    this.#dmaMask = dmaMask;
    this.#delay = delay;
  }

  attach(device) {
    this.#device = device;
    this.#ram = device.region('ram').memory;
  }

  readRegister(offset, width) {
    if (!isAllowed(offset, width)) return ALL_ONES;
    switch (offset) {
      case REGISTER.identification:
        return IDENTIFICATION;
      case REGISTER.liveness:
        return this.#liveness;
      case REGISTER.factorial:
        return this.#factorial;
      case REGISTER.status:
        return this.#status;
      case REGISTER.interruptStatus:
        return this.#interrupts;
      case REGISTER.dmaSource:
        return this.#dma.source;
      case REGISTER.dmaDestination:
        return this.#dma.destination;
      case REGISTER.dmaCount:
        return this.#dma.count;
      case REGISTER.dmaCommand:
        return this.#dma.command;
      default:
        return ALL_ONES;
    }
  }

  writeRegister(offset, width, value) {
    if (!isAllowed(offset, width)) return;
    if (offset >= REGISTER.dmaSource) return this.#writeDma(offset, BigInt(value));
    switch (offset) {
      case REGISTER.liveness:
        this.#liveness = ~value;
        return;
      case REGISTER.factorial:
        return this.#computeFactorial(value);
      case REGISTER.status:
        this.#status = (this.#status & STATUS.computing) | (value & STATUS.raiseInterrupt);
        return;
      case REGISTER.interruptRaise:
        return this.#raise(value);
      case REGISTER.interruptAcknowledge:
        this.#interrupts &= ~value;
        return;
    }
  }

  #raise(value) {
    this.#interrupts |= value;
    if (this.#interrupts !== 0) this.#device.raise();
  }

  /** What is under way when the card is pulled out does not happen. */
  async #later(work) {
    try {
      await sleep(this.#delay, undefined, { signal: this.#device.signal });
      work();
    } catch (error) {
      // The host's memory may have gone in the middle of a transfer.
      if (this.#device.state !== 'removed') throw error;
    }
  }

  #computeFactorial(n) {
    if (this.#status & STATUS.computing) return;
    this.#status |= STATUS.computing;
    this.#factorial = n;
    void this.#later(() => {
      this.#factorial = factorial(n);
      this.#status &= ~STATUS.computing;
      if (this.#status & STATUS.raiseInterrupt) this.#raise(INTERRUPT.factorial);
    });
  }

  #writeDma(offset, value) {
    // The registers of a transfer that is under way cannot be changed.
    if (this.#dma.command & DMA.start) return;
    if (offset === REGISTER.dmaSource) this.#dma.source = value;
    if (offset === REGISTER.dmaDestination) this.#dma.destination = value;
    if (offset === REGISTER.dmaCount) this.#dma.count = value;
    if (offset === REGISTER.dmaCommand && Number(value) & DMA.start) this.#startDma(Number(value & 0x7n));
  }

  #startDma(command) {
    this.#dma.command = command;
    void this.#later(() => {
      this.#transfer(command);
      this.#dma.command &= ~DMA.start;
      if (command & DMA.raiseInterrupt) this.#raise(INTERRUPT.dma);
    });
  }

  #transfer(command) {
    const { source, destination } = this.#dma;
    const [inCard, onBus] = command & DMA.toRam ? [source, destination] : [destination, source];
    const count = Number(this.#dma.count);
    const begin = Number(inCard) - DMA_BUFFER.offset;
    // Outside the buffer is a mistake of the driver's. Nothing is moved, and the transfer ends like any other.
    if (count === 0 || begin < 0 || begin + count > DMA_BUFFER.size) return;
    const part = this.#buffer.subarray(begin, begin + count);
    const address = Number(onBus & this.#dmaMask);
    // Where no memory is, a bus reads all ones, and writes go nowhere.
    const there = address + count <= this.#ram.length;
    if (command & DMA.toRam) there && this.#ram.write(address, part);
    else if (there) this.#ram.read(address, part);
    else part.fill(0xff);
  }
}

function isAllowed(offset, width) {
  return width === 4 || (width === 8 && offset >= 0x80);
}

/** Modulo 2^32; from 34! on that is 0. */
function factorial(n) {
  let result = 1;
  for (; n > 0 && result !== 0; n--) result = Math.imul(result, n);
  return result;
}
