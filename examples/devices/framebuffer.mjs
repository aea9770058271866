/**
 * A framebuffer of 640 x 400 pixels. Its pages are drawn at their first access, and it knows which ones have been
 * painted over. It has page-fault ops, so in a worker every access works; in its own thread only readAsync and writeAsync do:
 *
 *     const device = await Device.spawn(new URL('./framebuffer.mjs', import.meta.url));
 *
 * Pixels are 32-bit words 0x00RRGGBB, in rows from the top.
 */
import { deviceError } from 'revocable-mmap/device';

export const REGISTER = {
  /** Of the picture, in pixels; of a row, in bytes. Read only. */
  width: 0x00,
  height: 0x04,
  stride: 0x08,
  bitsPerPixel: 0x0c,
  /** See CONTROL. */
  control: 0x10,
  /** How often the picture has been shown. Read only. */
  vsync: 0x14,
  /** What is drawn: 0 a gradient, n the Mandelbrot set, 2^(n-1) times enlarged. Writing draws anew. */
  scene: 0x18,
  /** How many pages have been painted over. Read only. */
  dirty: 0x1c,
};
export const CONTROL = { vsyncInterrupts: 0x1 };
/** ioctl: the numbers of the pages painted over since it was last asked, as a Uint32Array. */
export const TAKE_DIRTY = 0x4601;

const REFRESH_MS = 16;
const PIXEL = 4;
const PAGE = 4096;
const PIXELS_PER_PAGE = PAGE / PIXEL;

/**
 * @param {object} [data]
 * @param {string} [data.name]
 * @param {number} [data.width] pixels
 * @param {number} [data.height] pixels
 * @param {number} [data.scene] what is drawn at first
 */
export default function framebuffer({ name = 'fb', width = 640, height = 400, scene = 0 } = {}) {
  return {
    name,
    regions: [
      { name: 'registers', size: 4096, kind: 'registers' },
      { name: 'pixels', size: width * height * PIXEL },
    ],
    ops: new Framebuffer(width, height, scene),
  };
}

class Framebuffer {
  #device;
  #pixels;
  #width;
  #height;
  #scene;
  #dirty = new Set();
  #vsync = 0;
  #refresh;

  constructor(width, height, scene) {
    this.#width = width;
    this.#height = height;
    this.#scene = scene;
  }

  attach(device) {
    this.#device = device;
    this.#pixels = device.region('pixels');
    device.signal.addEventListener('abort', () => clearInterval(this.#refresh));
  }

  /** Draws the page that a thread waits for. */
  fault(page) {
    // Let go only to learn of the next write: what has been drawn and painted is still there.
    if (page.present) return undefined;
    const pixels = new Uint32Array(PIXELS_PER_PAGE);
    const first = page.index * PIXELS_PER_PAGE;
    for (let i = 0; i < PIXELS_PER_PAGE; i++) pixels[i] = this.#colour(first + i);
    return new Uint8Array(pixels.buffer);
  }

  /** A thread is about to paint. */
  pageMkwrite(page) {
    this.#dirty.add(page.index);
  }

  ioctl(file, command) {
    if (command !== TAKE_DIRTY) throw deviceError('ENOTTY', 'ioctl');
    // Without the pages in their mappings, the painters' next writes fault again, and are heard of again.
    this.#pixels.zap();
    const pages = Uint32Array.from(this.#dirty).sort();
    this.#dirty.clear();
    return pages;
  }

  readRegister(offset, width) {
    if (width !== 4) return -1;
    switch (offset) {
      case REGISTER.width:
        return this.#width;
      case REGISTER.height:
        return this.#height;
      case REGISTER.stride:
        return this.#width * PIXEL;
      case REGISTER.bitsPerPixel:
        return 8 * PIXEL;
      case REGISTER.control:
        return this.#refresh === undefined ? 0 : CONTROL.vsyncInterrupts;
      case REGISTER.vsync:
        return this.#vsync;
      case REGISTER.scene:
        return this.#scene;
      case REGISTER.dirty:
        return this.#dirty.size;
      default:
        return -1;
    }
  }

  writeRegister(offset, width, value) {
    if (width !== 4) return;
    if (offset === REGISTER.control) this.#control(value);
    if (offset === REGISTER.scene) this.#draw(value);
  }

  #control(value) {
    clearInterval(this.#refresh);
    this.#refresh = undefined;
    if ((value & CONTROL.vsyncInterrupts) === 0) return;
    this.#refresh = setInterval(() => {
      this.#vsync = (this.#vsync + 1) >>> 0;
      this.#device.raise();
    }, REFRESH_MS);
    // A screen that shows its picture keeps no process alive.
    this.#refresh.unref();
  }

  /** Draws nothing: the old pages go, and the next access to each draws it anew. */
  #draw(scene) {
    this.#scene = scene;
    this.#dirty.clear();
    this.#pixels.discard();
  }

  #colour(pixel) {
    const x = pixel % this.#width;
    const y = Math.floor(pixel / this.#width);
    if (this.#scene === 0) return gradient(x / (this.#width - 1), y / (this.#height - 1));
    return this.#mandelbrot(x, y);
  }

  #mandelbrot(x, y) {
    // Enlarged about a point on the edge of the set, where there is something to see.
    const [centreX, centreY] = this.#scene === 1 ? [-0.7, 0] : [-0.743_643_9, 0.131_825_9];
    const step = 2.6 / this.#height / 2 ** (this.#scene - 1);
    return escapeColour(centreX + (x - this.#width / 2) * step, centreY + (y - this.#height / 2) * step);
  }
}

/** Red grows to the right, green downwards. */
function gradient(right, down) {
  return (Math.round(255 * right) << 16) | (Math.round(255 * down) << 8) | 0x80;
}

const MOST_STEPS = 128;

/** Black for the points of the set; others by how soon they leave it. */
function escapeColour(cx, cy) {
  let x = 0;
  let y = 0;
  for (let steps = 0; steps < MOST_STEPS; steps++) {
    [x, y] = [x * x - y * y + cx, 2 * x * y + cy];
    if (x * x + y * y > 4) return gradient(steps / MOST_STEPS, Math.sqrt(steps / MOST_STEPS));
  }
  return 0;
}
