import { MemoryObject } from 'revocable-mmap';
import { kernel, survivingChild, whyNoPerfEvent, whyNoMseal } from '../support/kernel-calls.js';
test('x', async () => {
  const m = MemoryObject.create({ size: 8192 });
  const p = m.map();
  p.write32(0, 7);
  console.log(kernel.peek(p.address, 4), kernel.poke(p.address, Buffer.from([1, 2])), p.read32(0), kernel.mremap(p.address, 4096, 0, 0), whyNoPerfEvent(), whyNoMseal());
  m.revokeSync();
  console.log(kernel.peek(p.address, 4), kernel.poke(p.address, Buffer.from([1, 2])), kernel.readablePages(p.address, 8192), kernel.maps(p.address, 8192));
  console.log(await survivingChild((lib, k, input: { a: number }) => { const o = lib.MemoryObject.create({ size: 4096 }).map(); return [k.peek(o.address), input.a, o.address]; }, { input: { a: 5 } }));
});
