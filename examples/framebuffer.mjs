// A picture that is drawn page by page, as it is looked at: node examples/framebuffer.mjs [FILE.ppm]
import { Device } from 'revocable-mmap/device';
import { FramebufferDriver } from './devices/framebuffer-driver.mjs';

const COLUMNS = 64;
const ROWS = 20;
const SHADES = ' .:-=+*#%@';

const device = await Device.spawn(new URL('./devices/framebuffer.mjs', import.meta.url));
const screen = new FramebufferDriver(device);
screen.draw(1); // the Mandelbrot set

for (let row = 0; row < ROWS; row++) {
  let line = '';
  for (let column = 0; column < COLUMNS; column++) {
    const pixel = await screen.pixel(Math.floor((column * screen.width) / COLUMNS), Math.floor((row * screen.height) / ROWS));
    const brightness = ((pixel >>> 16) + ((pixel >>> 8) & 0xff) + (pixel & 0xff)) / 3;
    line += SHADES[Math.floor((brightness / 256) * SHADES.length)];
  }
  console.log(line.trimEnd());
}
console.log(`${device.opCounts.fault} pages drawn of ${device.region('pixels').size / 4096}`);

const [, , path] = process.argv;
if (path !== undefined) await screen.savePpm(path);
await device.unplug();
console.log(`pulled out: ${await screen.pixel(0, 0).catch((error) => error.code)}`);
