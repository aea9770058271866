// The public API as the types have it, one report an entry point of the package: etc/*.api.md. A change of the API is a change of these files.
//
//   npm run api          writes them
//   npm run api:check    fails where they differ from the types in dist
import { Extractor, ExtractorConfig } from '@microsoft/api-extractor';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const check = process.argv.includes('--check');
const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

const quiet = { logLevel: 'none' };

function configOf(entry, types) {
  const name = ['revocable-mmap', ...entry.split('/').slice(1)].join('-');
  return ExtractorConfig.prepare({
    configObject: {
      projectFolder: ROOT,
      mainEntryPointFilePath: join(ROOT, types),
      compiler: { tsconfigFilePath: join(ROOT, 'tsconfig.json') },
      apiReport: {
        enabled: true,
        reportFileName: `${name}.api.md`,
        reportFolder: join(ROOT, 'etc'),
        reportTempFolder: join(ROOT, 'build', 'api'),
        includeForgottenExports: entry === '.', // what the others forget is in that one
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      newlineKind: 'lf',
      messages: {
        extractorMessageReporting: {
          default: quiet,
          // A type that users see, and cannot name: in the report.
          'ae-forgotten-export': { logLevel: 'warning', addToApiReportFile: true },
        },
        tsdocMessageReporting: { default: quiet },
        compilerMessageReporting: { default: { logLevel: 'error' } },
      },
    },
    configObjectFullPath: undefined,
    packageJsonFullPath: join(ROOT, 'package.json'),
  });
}

for (const [entry, { require: required } = {}] of Object.entries(exports)) {
  if (required === undefined) continue;
  const result = Extractor.invoke(configOf(entry, required.types), { localBuild: !check, showVerboseMessages: false });
  if (result.succeeded) continue;
  console.error(
    `The types of ${entry} are not those of its report in etc/: look at the difference, and "npm run api" writes it.`,
  );
  process.exitCode = 1;
}
