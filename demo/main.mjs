// The main job of revocable-mmap on real memory, in seven scenes. Exits with 0 only when every claim it prints was checked.
import { before } from './before.mjs';
import { log } from './log.mjs';
import { unplug } from './unplug.mjs';
import { comeBack } from './come-back.mjs';
import { device } from './device.mjs';
import { removal } from './device-removal.mjs';
import { share } from './share.mjs';
import { claims, colours, say } from './story.mjs';

say.title('revocable-mmap: memory that survives the device going away');

say.scene('a. Before: a file is mapped with a plain mmap, and another process truncates it');
await before();

say.scene('b. The same with revocable-mmap: a growing log, truncated under its reader');
await log();

say.scene('c. A device is unplugged while three processes and two workers use its memory');
const unplugged = await unplug();

say.scene('d. The device comes back');
await comeBack(unplugged);

say.scene('e. A simulated device: every page is a page fault that JavaScript answers');
await device();

say.scene('f. A simulated device is pulled out under load');
await removal();

say.scene('g. A device that three other processes use, one of them written in C, is pulled out');
await share();

const failed = claims.filter((claim) => !claim.holds);
console.log();
claims.forEach(say.claim);
console.log();
console.log(
  failed.length === 0
    ? colours.bold(colours.green(`All ${claims.length} claims were checked and hold.`))
    : colours.bold(colours.red(`${failed.length} of ${claims.length} claims do not hold.`)),
);
process.exitCode = failed.length === 0 ? 0 : 1;
