/**
 * A driver for framebuffer.mjs. Once the device is gone every call throws, or rejects with, MappingRevokedError or `ENODEV`; none waits
 * for ever.
 */
import { writeFile } from 'node:fs/promises';
import { CONTROL, REGISTER, TAKE_DIRTY } from './framebuffer.mjs';
import { within } from './waiting.mjs';

const LIMIT_MS = 10_000;
const PIXEL = 4;

export class FramebufferDriver {
  #file;
  #registers;
  #pixels;
  width;
  height;
  /** Bytes of a row. */
  stride;

  constructor(device) {
    this.#file = device.open();
    this.#registers = this.#file.map({ region: 'registers' });
    this.#pixels = this.#file.map({ region: 'pixels' });
    this.width = this.#registers.read32(REGISTER.width);
    this.height = this.#registers.read32(REGISTER.height);
    this.stride = this.#registers.read32(REGISTER.stride);
  }

  get scene() {
    return this.#registers.read32(REGISTER.scene);
  }

  /** Selects another picture: each page is drawn at its next access. */
  draw(scene) {
    this.#registers.write32(REGISTER.scene, scene);
  }

  /** One pixel, 0x00RRGGBB. */
  async pixel(x, y) {
    const value = new Uint32Array(1);
    await this.#pixels.readAsync(y * this.stride + x * PIXEL, value);
    return value[0];
  }

  /** All of them, row by row. */
  async picture() {
    const pixels = new Uint32Array(this.width * this.height);
    for (let y = 0; y < this.height; y++) {
      await this.#pixels.readAsync(y * this.stride, pixels.subarray(y * this.width, (y + 1) * this.width));
    }
    return pixels;
  }

  /** Paints a rectangle in one colour, 0x00RRGGBB. */
  async fill({ x, y, width, height }, colour) {
    const row = new Uint32Array(width).fill(colour);
    for (let line = y; line < y + height; line++) await this.#pixels.writeAsync(line * this.stride + x * PIXEL, row);
  }

  /** How many pages have been painted over, and not been taken. */
  get dirty() {
    return this.#registers.read32(REGISTER.dirty);
  }

  /** The numbers of the pages painted over since the last call, of 4096 bytes each. */
  takeDirty() {
    return this.#file.ioctl(TAKE_DIRTY);
  }

  /** Waits until the picture is shown the next time; resolves with how often it has been. */
  nextVsync() {
    return within(LIMIT_MS, 'a vsync', async (signal) => {
      const interrupts = this.#file.interrupts({ signal });
      const before = this.#registers.read32(REGISTER.vsync);
      this.#registers.write32(REGISTER.control, CONTROL.vsyncInterrupts);
      // One that was on its way when interrupts were turned off last may still come.
      do await interrupts.next();
      while (this.#registers.read32(REGISTER.vsync) === before);
      this.#registers.write32(REGISTER.control, 0);
      return this.#registers.read32(REGISTER.vsync);
    });
  }

  /** Writes the picture as a binary PPM file, which most viewers show. */
  async savePpm(path) {
    const pixels = await this.picture();
    const header = Buffer.from(`P6\n${this.width} ${this.height}\n255\n`, 'latin1');
    const body = Buffer.alloc(3 * pixels.length);
    // A pixel's lower three bytes are red, green, blue from the highest down.
    for (let i = 0; i < pixels.length; i++) body.writeUIntBE(pixels[i], 3 * i, 3);
    await writeFile(path, Buffer.concat([header, body]));
  }

  close() {
    this.#registers.close();
    this.#pixels.close();
    this.#file.close();
  }
}
