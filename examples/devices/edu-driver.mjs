/**
 * A driver for edu.mjs. Once the device is gone every call throws, or rejects with, MappingRevokedError or `ENODEV`; none waits for ever.
 *
 * It reaches the registers in one of three ways, and the card sees the same accesses: `device.trace()` of each is the same text.
 */
import { DMA, DMA_BUFFER, INTERRUPT, REGISTER, STATUS } from './edu.mjs';
import { memoryOf, programIn } from './programs.mjs';
import { answered, RawRegisters } from './registers.mjs';
import { oneByOne, within } from './waiting.mjs';

const LIMIT_MS = 10_000;
/** Of a loop that looks for the end of a computation. */
const MOST_POLLS = 1_000_000;

export class EduDriver {
  #file;
  #mapping;
  #registers;
  #ram;
  #exclusively = oneByOne();

  /**
   * @param {object} [options]
   * @param {'checked' | 'raw' | 'webassembly'} [options.registers] how the registers are reached: by checked accessors, by typed arrays, or
   *   by a program in WebAssembly. The last two are for a device whose ops run in another thread: this one could not answer itself.
   */
  constructor(device, { registers = 'checked' } = {}) {
    this.#file = device.open();
    [this.#mapping, this.#registers] = WAYS[registers](this.#file);
    this.#ram = this.#file.map({ region: 'ram' });
  }

  /** The card's version. */
  identify() {
    const value = this.#registers.identification();
    if ((value & 0xff) !== 0xed) throw new Error(`no edu card: 0x${value.toString(16)}`);
    return { major: value >>> 24, minor: (value >>> 16) & 0xff };
  }

  /** Checks that the card answers: it inverts what is written to it. */
  isAlive(challenge = 0x1234_5678) {
    return this.#registers.invert(challenge) === ~challenge >>> 0;
  }

  /** n! modulo 2^32. */
  factorial(n) {
    return this.#exclusively(async () => {
      await this.#untilInterrupted(INTERRUPT.factorial, () => this.#registers.startFactorial(STATUS.raiseInterrupt, n));
      return this.#registers.result();
    });
  }

  /** The same without an interrupt: looks until it is done, and lets nothing else happen in this thread meanwhile. */
  pollFactorial(n) {
    this.#registers.startFactorial(0, n);
    if (this.#registers.poll(MOST_POLLS) & STATUS.computing) throw new Error('the edu card computes for ever');
    return this.#registers.result();
  }

  /** Sends bytes to the card's buffer, and fetches them back into another place of the host's memory: at most 4096. */
  dmaRoundTrip(bytes) {
    return this.#exclusively(async () => {
      const count = bytes.byteLength;
      this.#ram.write(0, bytes);
      await this.#dma({ source: 0, destination: DMA_BUFFER.offset, count, direction: 0 });
      await this.#dma({ source: DMA_BUFFER.offset, destination: DMA_BUFFER.size, count, direction: DMA.toRam });
      const returned = new Uint8Array(count);
      this.#ram.read(DMA_BUFFER.size, returned);
      return returned;
    });
  }

  close() {
    this.#mapping.close();
    this.#ram.close();
    this.#file.close();
  }

  #dma({ source, destination, count, direction }) {
    const command = DMA.start | DMA.raiseInterrupt | direction;
    return this.#untilInterrupted(INTERRUPT.dma, () =>
      this.#registers.startDma(BigInt(source), BigInt(destination), BigInt(count), BigInt(command)),
    );
  }

  /** Listens before it starts the job, so that no interrupt is missed. */
  #untilInterrupted(cause, start) {
    return within(LIMIT_MS, 'an interrupt of the edu card', async (signal) => {
      const interrupts = this.#file.interrupts({ signal });
      start();
      do await interrupts.next();
      while ((this.#registers.cause() & cause) === 0);
      this.#registers.acknowledge(cause);
    });
  }
}

const BAR = { region: 'bar0', fill: 'ones' };

/** Each gives a mapping of the registers, and what the driver does with them. */
const WAYS = {
  checked(file) {
    const mapping = file.map(BAR);
    return [mapping, new EduRegisters(mapping)];
  },
  raw(file) {
    const mapping = file.map(BAR);
    return [mapping, new EduRegisters(new RawRegisters(mapping))];
  },
  webassembly(file) {
    const memory = memoryOf(17 * 65_536);
    const mapping = file.map({ ...BAR, memory, memoryOffset: 0x10000 });
    return [mapping, new EduProgram(mapping, programIn(memory, 'edu-driver'))];
  },
};

/** By `read32`, `write32` and `write64`. */
class EduRegisters {
  #registers;

  constructor(registers) {
    this.#registers = registers;
  }

  identification() {
    return this.#registers.read32(REGISTER.identification);
  }

  invert(challenge) {
    this.#registers.write32(REGISTER.liveness, challenge);
    return this.#registers.read32(REGISTER.liveness);
  }

  startFactorial(status, n) {
    this.#registers.write32(REGISTER.status, status);
    this.#registers.write32(REGISTER.factorial, n);
  }

  /** The status, as soon as the card no longer computes, or after so many looks at it. */
  poll(times) {
    let status;
    do status = this.#registers.read32(REGISTER.status);
    while (status & STATUS.computing && --times > 0);
    return status;
  }

  result() {
    return this.#registers.read32(REGISTER.factorial);
  }

  startDma(source, destination, count, command) {
    this.#registers.write64(REGISTER.dmaSource, source);
    this.#registers.write64(REGISTER.dmaDestination, destination);
    this.#registers.write64(REGISTER.dmaCount, count);
    this.#registers.write64(REGISTER.dmaCommand, command);
  }

  cause() {
    return this.#registers.read32(REGISTER.interruptStatus);
  }

  acknowledge(cause) {
    this.#registers.write32(REGISTER.interruptAcknowledge, cause);
  }
}

/** By edu-driver.wat, which has the same functions. It knows nothing of a card that is gone: what it returns is believed only if that is there. */
class EduProgram {
  constructor(mapping, program) {
    for (const name of ['identification', 'invert', 'poll', 'result', 'cause'])
      this[name] = (argument) => answered(mapping, program[name](argument));
    for (const name of ['startFactorial', 'startDma', 'acknowledge']) this[name] = program[name];
  }
}
