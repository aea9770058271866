import { spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { temporaryDirectory } from '../support/temporary.js';

const ROOT = join(__dirname, '..', '..');
const CRUISER = join(ROOT, 'node_modules', 'dependency-cruiser', 'bin', 'dependency-cruise.mjs');

/** One module that breaks each rule. */
const BREACHES: Record<string, [file: string, text: string]> = {
  'native-imports-nothing': ['src/native/load.ts', "import '../memory/keep-alive.js';"],
  foundation: ['src/errors.ts', "import type { Kept } from './memory/keep-alive.js';"],
  thread: ['src/thread/identities.ts', "import type { Kept } from '../memory/keep-alive.js';"],
  memory: ['src/memory/wasm-memory.ts', "import type { Traced } from '../device/trace.js';"],
  device: ['src/device/device.ts', "import '../index.js';"],
  share: ['src/share/list.ts', "import '../index.js';"],
  bench: ['src/bench/pin.ts', "import '../device/trace.js';"],
  'no-circle': ['src/device/backing.ts', "import './remote-calls.js';"],
  'one-circle': ['src/memory/mapping.ts', "import './checked-access.js';"],
  'no-package': ['src/arguments.ts', "import 'typescript';"],
};

/** What those modules import. */
const IMPORTED: Record<string, string> = {
  'src/index.ts': '',
  'src/memory/keep-alive.ts': 'export type Kept = 1;',
  'src/device/trace.ts': 'export type Traced = 1;',
  'src/device/remote-calls.ts': "import './backing.js';",
  'src/memory/checked-access.ts': "import './mapping.js';",
};

/** What no rule forbids. */
const ALLOWED: Record<string, string> = {
  'src/memory/mapping.ts': "import './memory-object.js';",
  'src/memory/memory-object.ts': "import './mapping.js';",
  'src/device/a.ts': "import type { B } from './b.js';\nexport type A = B;",
  'src/device/b.ts': "import './a.js';\nimport 'node:fs';\nexport type B = 1;",
};

interface Broken {
  rule: string;
  file: string;
}

function brokenIn(files: Record<string, string>): Broken[] {
  const directory = temporaryDirectory();
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, file)), { recursive: true });
    writeFileSync(join(directory, file), `${text}\n`);
  }
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  return cruise(directory);
}

/** As `npm run check:structure` does, whose exit status is the number of breaches. */
function cruise(directory: string): Broken[] {
  const config = join(ROOT, '.dependency-cruiser.cjs');
  const run = spawnSync(process.execPath, [CRUISER, 'src', '--config', config], { cwd: directory, encoding: 'utf8' });
  const broken = [...run.stdout.matchAll(/^ *error ([\w-]+): (\S+)/gm)].map(([, rule, file]) => ({ rule, file }));
  expect(run).toMatchObject({ status: broken.length, stderr: '' });
  return broken;
}

describe('import rules', () => {
  it('every rule finds what breaks it', () => {
    const { forbidden } = require('../../.dependency-cruiser.cjs') as { forbidden: { name: string }[] };
    expect(Object.keys(BREACHES)).toEqual(forbidden.map(({ name }) => name));
    const broken = brokenIn({ ...IMPORTED, ...Object.fromEntries(Object.values(BREACHES)) });
    expect(broken).toEqual(expect.arrayContaining(Object.entries(BREACHES).map(([rule, [file]]) => ({ rule, file }))));
  });

  it('allow the circle of objects and mappings, and circles of types', () => {
    expect(brokenIn(ALLOWED)).toEqual([]);
  });

  it('hold in the library', () => {
    expect(cruise(ROOT)).toEqual([]);
  });
});
