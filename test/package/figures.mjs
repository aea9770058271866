// Figures of the packed package, and the one that has a limit: how much longer a program takes to start that only imports it.
import assert from 'node:assert';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { glibcNeed } from '../../scripts/prebuilds/targets.mjs';
import { NODES, run } from './pack.mjs';

// The aim is 1.15 (docs/decisions/010-one-file.md says what is in the way); the limit is for what makes it worse.
const [AIM, LIMIT] = [1.15, 1.4];
const PAIRS = 41;

export function figures(packed) {
  return [
    { name: 'glibc that the binaries need', run: need },
    { name: 'time to load', run: loadTime },
    ...NODES.map((node) => ({
      name: `start of a program that only imports the package, Node ${node.version}`,
      run: () => startRatio(node),
    })),
  ];

  function need() {
    const cwd = packed.installed();
    return ['x64', 'arm64']
      .map(
        (arch) =>
          `${arch} ${glibcNeed(readFileSync(join(cwd, `node_modules/revocable-mmap/prebuilds/linux-${arch}/revocable-mmap.glibc.node`)))}`,
      )
      .join(', ');
  }

  function loadTime() {
    const cwd = packed.installed();
    const program = `const t = performance.now(); require('revocable-mmap'); console.log(performance.now() - t);`;
    const times = (path) => Array.from({ length: 15 }, () => Number(run(path, ['-e', program], { cwd }).stdout));
    return NODES.map(({ version, path }) => `Node ${version} ${median(times(path)).toFixed(1)} ms`).join(', ');
  }

  function startRatio({ path }) {
    const cwd = packed.installed();
    installEmptyAddon(join(cwd, 'node_modules/empty-addon'), join(path, '../../include/node'));
    const ratios = [];
    for (let pair = 0; pair < PAIRS; pair++) {
      const [empty, ours] = ['empty-addon', 'revocable-mmap'].map((name) => seconds(path, ['-e', `require('${name}')`], cwd)); // prettier-ignore
      ratios.push(ours / empty);
    }
    const ratio = median(ratios);
    assert.ok(ratio <= LIMIT, `${ratio.toFixed(3)} times an empty addon's, limit ${LIMIT}`);
    return `${ratio.toFixed(3)} times an empty addon's, ${ratio <= AIM ? 'which is the aim' : `above the aim of ${AIM}`}`;
  }
}

/** A package, too: Node takes the same way from its name to its file. */
function installEmptyAddon(cwd, headers) {
  mkdirSync(cwd, { recursive: true });
  writeFileSync(join(cwd, 'package.json'), '{ "name": "empty-addon", "version": "1.0.0", "main": "empty.node" }\n');
  writeFileSync(join(cwd, 'empty.c'), '#include <node_api.h>\nNAPI_MODULE_INIT() { return exports; }\n');
  run('cc', ['-shared', '-fPIC', '-O2', '-I', headers, 'empty.c', '-o', 'empty.node'], { cwd });
}

function seconds(command, args, cwd) {
  const started = performance.now();
  run(command, args, { cwd });
  return performance.now() - started;
}

function median(numbers) {
  return numbers.sort((a, b) => a - b)[numbers.length >> 1];
}
