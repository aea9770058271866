import { isRevokedError, MemoryObject } from 'revocable-mmap';
import { RING_BYTES } from './ring.mjs';
import { claim, say } from './story.mjs';

function errorOf(action) {
  try {
    action();
    return undefined;
  } catch (error) {
    return error;
  }
}

export async function comeBack({ device, old }) {
  const returned = MemoryObject.create({ size: RING_BYTES, name: 'ring' });
  const mapping = returned.map();
  for (let at = 0; at < RING_BYTES; at += 4096) mapping.write32(at, 0xc0ffee);
  say.line(`a device that returns is a new object: its mapping reads 0x${mapping.read32(4096).toString(16)}`);
  const stillDead = old.every((gone) => isRevokedError(errorOf(() => gone.read32(4096))));
  const values = old.map((gone) => gone.view.getUint32(4096, true));
  say.line(
    `the old mappings stay dead: checked reads throw, raw ones read ${values.map((v) => `0x${v.toString(16)}`).join(', ')}`,
  );
  const refused = errorOf(() => device.map());
  say.line(`and the old object maps no more: ${refused?.code}`);
  claim('the new object works', mapping.read32(RING_BYTES - 4096) === 0xc0ffee);
  claim('old mappings stay dead, in checked and in raw views', stillDead && !values.includes(0xc0ffee));
  claim('the old object refuses new mappings with ENODEV', refused?.code === 'ENODEV');
  returned.close();
  device.close();
}
