/**
 * Devices of libvfio-user's samples, which others wrote: https://github.com/nutanix/libvfio-user. They are no part of this project: where
 * `LIBVFIO_USER_SAMPLES` names no folder with them, built (`meson setup build && ninja -C build`, then `build/samples`), these tests are
 * skipped. Of commit 7e7a0a6: since the one after it the sample `server` does not start, because its BAR 1 is of 12 KiB.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Device, MemoryObject } from 'revocable-mmap';
import { connect, serve } from 'revocable-mmap/share';
import { temporaryDirectory } from '../support/temporary.js';
import { until, within } from '../support/until.js';

const PAGE = 4096;
const samples = process.env['LIBVFIO_USER_SAMPLES'] ?? '';
const there = samples !== '' && ['server', 'client', 'gpio-pci-idio-16'].every((name) => existsSync(join(samples, name)));

const running = new Set<ChildProcess>();
const opened = new Set<Device>();
afterEach(async () => {
  for (const child of running) child.kill('SIGKILL');
  for (const device of opened) await device.unplug();
});

interface Sample {
  path: string;
  kill(): Promise<void>;
}

async function sample(name: string): Promise<Sample> {
  const path = join(temporaryDirectory(), 'sample.sock');
  const child = spawn(join(samples, name), [path], { stdio: 'ignore' });
  running.add(child);
  const ended = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  await until('it listens', () => existsSync(path));
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
    running.delete(child);
  };
  return { path, kill };
}

/** A device like the sample `server`, without migration. Instead of after a second it goes on once the client has read the time. */
function likeTheServer(seen: string[]): Device {
  const rangeAt = (index: number): number => index * PAGE;
  const io = async (): Promise<void> => {
    device.raise(0);
    const data = Buffer.from('ABCD'.split('').map((letter) => letter.repeat(1024)).join('')); // prettier-ignore
    device.dma.writeSync(rangeAt(1), data);
    const back = Buffer.alloc(PAGE);
    await device.dma.write(rangeAt(0), data, { byMessages: true });
    await device.dma.read(rangeAt(0), back, { byMessages: true });
    seen.push(back.equals(data) ? 'what was written' : 'something else');
  };
  const device: Device = new Device({
    name: 'server',
    pci: { vendorId: 0xdead, deviceId: 0xbeef, subsystem: { vendorId: 0xcafe, deviceId: 0xbabe } },
    regions: [
      { name: 'time', kind: 'registers', size: 8, bar: 0 },
      { name: 'memory', size: 3 * PAGE, bar: 1 },
      { name: 'middle', kind: 'registers', size: PAGE, bar: 1, barOffset: PAGE },
    ],
    ops: {
      readRegister: () => {
        setImmediate(() => void io()); // the answer goes first
        return 1n;
      },
      writeRegister: () => void seen.push(`time, with ${device.dma.ranges.length} ranges`),
    },
  });
  return device;
}

const title = 'devices of libvfio-user';
const skipped = `${title} (skipped: LIBVFIO_USER_SAMPLES names no folder with its samples)`;
(there ? describe : describe.skip)(there ? title : skipped, () => {
  test('gpio-pci-idio-16: registers, memory given and taken away, its kill', async () => {
    const { path, kill } = await sample('gpio-pci-idio-16');
    const device = await connect(path);
    expect(device.regions.map(({ name, size, kind }) => [name, size, kind])).toEqual([
      ['bar2', 256, 'registers'],
      ['config', 256, 'registers'],
    ]);
    const file = device.open();
    const pins = file.map({ region: 'bar2' });
    expect(pins.read8(1)).toBe(0xff);
    pins.write8(0, 0b101);
    expect(pins.read8(1)).toBe(0xfa);
    expect(file.map({ region: 'config' }).read32(0)).toBe(0x0dc8_494f);
    const range = await device.dma.map(MemoryObject.create({ size: PAGE }), { address: 0x1000 });
    await expect(device.dma.map(MemoryObject.create({ size: PAGE }), { address: 0x1000 })).rejects.toMatchObject({
      code: 'EEXIST',
    });
    await range.unmap();
    await device.reset();
    await kill();
    await until('it is removed', () => device.state === 'removed');
    expect(() => pins.read8(1)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
  });

  test('server: an interrupt, memory that it reaches by descriptor and by messages, a BAR mapped in parts, its kill', async () => {
    const { path, kill } = await sample('server');
    const device = await connect(path);
    expect(device.regions.map(({ name, size, kind }) => [name, size, kind])).toEqual([
      ['bar0', 8, 'registers'],
      ['bar1', 3 * PAGE, 'registers'],
      ['bar1.memory', 3 * PAGE, 'memory'],
      ['config', 256, 'registers'],
    ]);
    const file = device.open();
    const config = file.map({ region: 'config' });
    expect([config.read32(0), config.read32(0x2c)]).toEqual([0xbeef_dead, 0xbabe_cafe]);
    expect(() => file.map({ region: 'bar1.memory' })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    const first = file.map({ region: 'bar1.memory', length: PAGE });
    const last = file.map({ region: 'bar1.memory', offset: 2 * PAGE });
    file.map({ region: 'bar1' }).write32(2 * PAGE + 8, 0x1234_5678);
    expect(last.read32(8)).toBe(0x1234_5678);
    first.write32(0, 0x0bad_cafe);
    expect(file.map({ region: 'bar1' }).read32(0)).toBe(0x0bad_cafe);
    // It writes four pieces to the first range by messages, and to the second itself, a second after it is asked to.
    const memory = MemoryObject.create({ size: 2 * PAGE });
    await device.dma.map(memory, { address: 0, length: PAGE, byMessages: true });
    await device.dma.map(memory, { address: PAGE, offset: PAGE, length: PAGE });
    const interrupt = file.interrupts().next();
    const time = file.map({ region: 'bar0' });
    time.write64(0, BigInt(Math.floor(Date.now() / 1000) + 1));
    expect((await within('it is raised', interrupt)).value).toBe(0);
    const pieces = 'ABCD'
      .split('')
      .map((letter) => letter.repeat(1024))
      .join('');
    const text = (offset: number): string => Buffer.from(memory.map().bytes.slice(offset, offset + PAGE)).toString('latin1');
    await until('it has written both', () => text(0) === pieces && text(PAGE) === pieces);
    expect(typeof time.read64(0)).toBe('bigint');
    await kill();
    await until('it is removed', () => device.state === 'removed');
    for (const mapping of [first, last, time])
      expect(() => mapping.read64(0)).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REVOKED' }));
  });

  test('client: all that it does before a migration, with a device like the sample server', async () => {
    const seen: string[] = [];
    const device = likeTheServer(seen);
    opened.add(device);
    const server = serve(device, { path: join(temporaryDirectory(), 'device.sock') });
    const client = spawn(join(samples, 'client'), [server.path], { stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(client);
    let [output, errors] = ['', ''];
    client.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    client.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
    const ended = new Promise<unknown[]>((resolve) => client.on('close', (...how) => resolve(how)));
    const how = await within('the client has ended', ended);
    running.delete(client);
    // It begins with a region that there is not, and gives up where it wants to migrate: with the state, or in a thread that writes all of BAR 1 meanwhile, registers too.
    expect({ how, errors }).toEqual({
      how: [1, null],
      errors: expect.stringMatching(
        /^client: failed to read from region -559038737 .*\nclient: failed to (set state: |write to region 1 )/,
      ),
    });
    expect(seen).toEqual(['time, with 128 ranges', 'what was written', 'time, with 64 ranges']);
    expect(output).toContain('area 0 offset 0 size 4096');
    expect(output).toContain('area 1 offset 0x2000 size 4096');
    expect(output).toContain('INTx triggered!');
    const logged = [...output.matchAll(/get_dirty_bitmap: .*\t(0x[01]|0)$/gm)].map(([, bit]) => Number(bit));
    expect(logged).toEqual(Array.from({ length: 128 }, (_, i) => (i < 2 ? 1 : 0)));
  });
});
