// A device for a worker of its own: a screen that is drawn where a thread looks, and a frame counter in a register.
export const SIDE = 256; // pixels of four bytes: a page holds four lines

export const colour = (x, y) => ((x << 16) | (y << 8) | (x ^ y)) >>> 0;

export function draw(offset) {
  const pixels = new Uint32Array(1024);
  const first = offset / 4;
  for (let i = 0; i < pixels.length; i++) pixels[i] = colour((first + i) % SIDE, Math.floor((first + i) / SIDE));
  return new Uint8Array(pixels.buffer);
}

export default function screen() {
  let drawn = 0;
  let frame = 0;
  return {
    name: 'screen',
    regions: [
      { name: 'pixels', size: SIDE * SIDE * 4 },
      { name: 'registers', size: 4096, kind: 'registers' },
    ],
    ops: {
      fault(page) {
        drawn++;
        return draw(page.offset);
      },
      readRegister: () => ++frame,
      ioctl: () => drawn,
    },
  };
}
