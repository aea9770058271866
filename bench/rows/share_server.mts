/** node share_server.mjs SOCKET: serves a device whose register answers at once. Prints a line when it does. Ends with its input. */
import { Device } from 'revocable-mmap/device';
import { serve } from 'revocable-mmap/share';

const device = new Device({
  name: 'bench',
  regions: [
    { name: 'memory', size: 65_536 },
    { name: 'registers', size: 4096, kind: 'registers' },
  ],
  ops: { readRegister: () => 7 },
});
serve(device, { path: process.argv[2] });
console.log('ready');
process.stdin.resume().on('end', () => void device.unplug());
