// Which folder of src may import from which: native ← thread ← memory ← device ← share, and native ← thread ← memory ← bench. Types count too.
// `npm run check:structure` checks it; test/structure/imports.test.ts shows that each rule can fail.

const layer = (name, comment, from, to) => ({ name, comment, severity: 'error', from: { path: from }, to: { path: to } });

const FOUNDATION = '^src/(arguments|brands|diagnostics|errors|os-constants|stats)[.]ts$';

module.exports = {
  forbidden: [
    layer(
      'native-imports-nothing',
      'src/native declares what the addon has, and needs nothing of ours',
      '^src/native/',
      '^src/(?!native/)',
    ),
    layer(
      'foundation',
      'errors, arguments and their like know native code only',
      FOUNDATION,
      '^src/(thread|memory|device|share|bench|addon|index)',
    ),
    layer('thread', 'src/thread knows the foundation and native code', '^src/thread/', '^src/(memory|device|share|bench|index)'),
    layer(
      'memory',
      'src/memory reaches devices through backing-provider.ts only',
      '^src/memory/',
      '^src/(device|share|bench|index)',
    ),
    layer('device', 'nothing in src/device needs the whole package', '^src/device/', '^src/(share|bench|index)'),
    layer('share', 'nothing in src/share needs the whole package', '^src/share/', '^src/(bench|index)'),
    layer('bench', 'src/bench measures memory, without devices', '^src/bench/', '^src/(device|share|index)'),
    {
      name: 'no-circle',
      comment: 'Modules that load each other in a circle work in one order only. Types may: they are gone when the code runs.',
      severity: 'error',
      // An object makes mappings, and a mapping that is attached finds its object: the one circle.
      from: { path: '^src/', pathNot: '^src/memory/(memory-object|mapping)[.]ts$' },
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'one-circle',
      comment: 'memory-object.ts and mapping.ts may be in a circle with each other, and in no other one',
      severity: 'error',
      from: { path: '^src/memory/(memory-object|mapping)[.]ts$' },
      to: {
        circular: true,
        viaOnly: { dependencyTypesNot: ['type-only'] },
        via: { pathNot: '^src/memory/(memory-object|mapping)[.]ts$' },
      },
    },
    {
      name: 'no-package',
      comment: 'The library has no dependencies but Node',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypesNot: ['core', 'local', 'type-only'], pathNot: '^src/|/prebuilds/.*[.]node$' },
    },
  ],
  options: { tsPreCompilationDeps: true, doNotFollow: { path: 'node_modules' } },
};
