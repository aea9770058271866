/** A driver for edu.mjs. Once the device is gone every call throws, or rejects with, MappingRevokedError or `ENODEV`; none waits for ever. */
import { DMA, DMA_BUFFER, INTERRUPT, REGISTER, STATUS } from './edu.mjs';
import { oneByOne, within } from './waiting.mjs';

const LIMIT_MS = 10_000;

export class EduDriver {
  #file;
  #registers;
  #ram;
  #exclusively = oneByOne();

  constructor(device) {
    this.#file = device.open();
    this.#registers = this.#file.map({ region: 'bar0' });
    this.#ram = this.#file.map({ region: 'ram' });
  }

  /** The card's version. */
  identify() {
    const value = this.#registers.read32(REGISTER.identification);
    if ((value & 0xff) !== 0xed) throw new Error(`no edu card: 0x${value.toString(16)}`);
    return { major: value >>> 24, minor: (value >>> 16) & 0xff };
  }

  /** Whether the card answers: it inverts what it is told. */
  isAlive(challenge = 0x1234_5678) {
    this.#registers.write32(REGISTER.liveness, challenge);
    return this.#registers.read32(REGISTER.liveness) === ~challenge >>> 0;
  }

  /** n! modulo 2^32. */
  factorial(n) {
    return this.#exclusively(async () => {
      await this.#untilInterrupted(INTERRUPT.factorial, () => {
        this.#registers.write32(REGISTER.status, STATUS.raiseInterrupt);
        this.#registers.write32(REGISTER.factorial, n);
      });
      return this.#registers.read32(REGISTER.factorial);
    });
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
    this.#registers.close();
    this.#ram.close();
    this.#file.close();
  }

  #dma({ source, destination, count, direction }) {
    return this.#untilInterrupted(INTERRUPT.dma, () => {
      this.#registers.write64(REGISTER.dmaSource, BigInt(source));
      this.#registers.write64(REGISTER.dmaDestination, BigInt(destination));
      this.#registers.write64(REGISTER.dmaCount, BigInt(count));
      this.#registers.write64(REGISTER.dmaCommand, BigInt(DMA.start | DMA.raiseInterrupt | direction));
    });
  }

  /** Listens before it starts the job, so that no interrupt is missed. */
  #untilInterrupted(cause, start) {
    return within(LIMIT_MS, 'an interrupt of the edu card', async (signal) => {
      const interrupts = this.#file.interrupts({ signal });
      start();
      do await interrupts.next();
      while ((this.#registers.read32(REGISTER.interruptStatus) & cause) === 0);
      this.#registers.write32(REGISTER.interruptAcknowledge, cause);
    });
  }
}
