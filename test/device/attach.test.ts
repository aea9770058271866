import { Device, DeviceBase } from 'revocable-mmap/device';
import { thrownBy } from '../support/thrown.js';

const REGIONS = [{ name: 'ram', size: 4096 }];

describe('the attach op', () => {
  test('gets the device once, complete and live, before its maker does', () => {
    const seen: unknown[] = [];
    const device = new Device({
      name: 'model',
      regions: REGIONS,
      ops: {
        attach(attached) {
          attached.region('ram').memory.write32(0, 42);
          seen.push(attached, attached.state, attached.regions.length);
        },
      },
    });
    expect(seen).toEqual([device, 'live', 1]);
    expect(device.opCounts.attach).toBe(1);
    expect(device.open().map().read32(0)).toBe(42);
    return device.unplug();
  });

  test('lets a model raise interrupts of its own', async () => {
    let model!: Device;
    const device = new Device({ name: 'model', regions: REGIONS, ops: { attach: (attached) => void (model = attached) } });
    const interrupts = device.open().interrupts();
    model.raise(3);
    expect(await interrupts.next()).toEqual({ done: false, value: 3 });
    await device.unplug();
  });

  test('what it throws is what the constructor throws, and the device is gone', async () => {
    let attached!: DeviceBase;
    const refusal = new Error('no such card');
    const refusing = {
      attach(device: DeviceBase) {
        attached = device;
        throw refusal;
      },
    };
    expect(thrownBy(() => new Device({ name: 'model', regions: REGIONS, ops: refusing }))).toBe(refusal);
    expect(attached.state).toBe('removed');
    expect(thrownBy(() => attached.open())).toMatchObject({ code: 'ENODEV' });
    expect((await attached.unplug()).removedByThisCall).toBe(false);
  });

  test('must be a function', () => {
    const wrong = { name: 'model', regions: REGIONS, ops: { attach: 1 } };
    expect(thrownBy(() => new Device(wrong as never))).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  });
});
