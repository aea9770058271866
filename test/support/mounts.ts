/** Small file systems of our own, which go away with the test. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeRemoval, temporaryDirectory } from './temporary.js';

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

/** A tmpfs of so many bytes. */
export function mountTmpfs(bytes: number): string {
  const directory = temporaryDirectory();
  run('mount', '-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', directory);
  beforeRemoval(() => run('umount', '-l', directory));
  return directory;
}

export interface LoopFileSystem {
  directory: string;
  /** Takes the disk away under the file system, and what is cached of it. */
  breakDisk(): void;
}

/** An ext4 on a loop device over a file. */
export function mountLoop(bytes: number): LoopFileSystem {
  const home = temporaryDirectory();
  const image = join(home, 'image');
  const directory = join(home, 'mnt');
  mkdirSync(directory);
  writeFileSync(image, '');
  truncateSync(image, bytes);
  run('mkfs.ext4', '-q', '-F', image);
  const device = run('losetup', '-f', '--show', image);
  beforeRemoval(() => run('losetup', '-d', device));
  run('mount', device, directory);
  beforeRemoval(() => run('umount', '-l', directory));
  return {
    directory,
    breakDisk: () => {
      run('sync');
      truncateSync(image, 4096);
      run('sh', '-c', 'echo 3 > /proc/sys/vm/drop_caches');
    },
  };
}
