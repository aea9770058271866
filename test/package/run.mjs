// The package as its users get it: packed, installed in every way, and run on every Node. The last line is `N passed, N failed`.
//
//   node test/package/run.mjs [part of a case's name]
//
// Nothing is fetched: every installation is of the tarball, and offline.
import { runCases } from './cases.mjs';
import { badInput } from './bad-input.mjs';
import { checks } from './checks.mjs';
import { figures } from './figures.mjs';
import { installs } from './installs.mjs';
import { pack } from './pack.mjs';

const packed = pack();
try {
  await runCases([...checks(packed), ...installs(packed), ...badInput(packed), ...figures(packed)], process.argv[2]);
} finally {
  packed.remove();
}
