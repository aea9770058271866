/** Tests that only some machines can run: where they cannot, they are reported as skipped, with the reason. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** `test` where `reason` is undefined; else a skipped test whose title says why. */
export function testUnless(
  reason: string | undefined,
  title: string,
  body: (() => void) | (() => Promise<void>),
  timeout?: number,
): void {
  if (reason === undefined) test(title, body, timeout);
  else test.skip(`${title} (skipped: ${reason})`, body, timeout);
}

const CAP_SYS_ADMIN = 21n;

/** Why file systems cannot be mounted here; undefined when they can. */
export function whyNoMount(): string | undefined {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1];
  return ((BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n) === 1n ? undefined : 'mounting needs CAP_SYS_ADMIN';
}

/** Why a child cannot be another user; undefined when it can. */
export function whyNoOtherUser(): string | undefined {
  return process.getuid!() === 0 ? undefined : 'becoming another user needs root';
}

/** Why no program of this tree can be run as another user. */
export function whyNoProgramOfOthers(): string | undefined {
  const reason = whyNoOtherUser();
  if (reason !== undefined) return reason;
  const { status } = spawnSync('test', ['-r', __filename], { uid: 65_534, gid: 65_534 });
  return status === 0 ? undefined : 'other users cannot read this tree';
}

/** The path of the Node of this version that `npm run test:matrix` has installed; undefined where it has not. */
export function otherNode(version: number): string | undefined {
  const path = join(__dirname, `../matrix/node_modules/node${version}/bin/node`);
  return existsSync(path) ? path : undefined;
}

/** Why no file system can be made on a loop device. */
export function whyNoLoopDevice(): string | undefined {
  const mount = whyNoMount();
  if (mount !== undefined) return mount;
  try {
    execFileSync('sh', ['-c', 'command -v mkfs.ext4 && losetup -f'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'needs mkfs.ext4 and a free loop device';
  }
}

/** Whether the machine is set to give shared memory pages larger than of 4 KiB where no program has asked for them. */
export function sharedMemoryMayBeHuge(): boolean {
  const directory = '/sys/kernel/mm/transparent_hugepage';
  if (!existsSync(directory)) return false;
  const sizes = readdirSync(directory).filter((name) => name.startsWith('hugepages-'));
  const settings = ['.', ...sizes].map((size) => join(directory, size, 'shmem_enabled')).filter((path) => existsSync(path));
  return settings.some((path) => /\[(always|within_size|force)\]/.test(readFileSync(path, 'utf8')));
}

export function nodeMajor(): number {
  return Number(process.versions.node.split('.')[0]);
}

/** Tests of raw accesses to registers, which only some processors can deliver. */
export function describeTrapped(title: string, body: () => void): void {
  if (process.arch === 'x64') describe(title, body);
  else describe.skip(`${title} (skipped: no raw accesses to registers on ${process.arch})`, body);
}
