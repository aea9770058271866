/** The benchmarks themselves: when a verdict is given, how many samples are taken, what the gate lets through, what the programs print. */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { compileBenchmarks, inBenchmarks, runBenchmarks } from '../support/benchmarks.js';
import { testUnless } from '../support/conditions.js';
import { temporaryDirectory } from '../support/temporary.js';

const ROOT = join(__dirname, '..', '..');
const RUN = join(__dirname, 'run.json');

compileBenchmarks();

describe('verdicts', () => {
  test('met and missed are said only when the whole interval says so', async () => {
    const verdicts = await inBenchmarks('statistics', ({ judge }) => {
      const of = (low: number, high: number) => ({ median: (low + high) / 2, low, high });
      return {
        'at most 2': [of(1, 2), of(1.9, 2.1), of(2, 2.5), of(2.01, 3)].map((ratio) => judge(ratio, { atMost: 2 })),
        'at least 2': [of(2, 3), of(1.9, 2.1), of(1.5, 2), of(1.5, 1.99)].map((ratio) => judge(ratio, { atLeast: 2 })),
        none: judge(of(1, 2), undefined),
      };
    });
    // One that ends at the bound is within it; one that begins there straddles it.
    expect(verdicts).toEqual({
      'at most 2': ['met', 'noisy', 'noisy', 'missed'],
      'at least 2': ['met', 'noisy', 'noisy', 'missed'],
      none: 'no target',
    });
  });

  test('costs grow by the exponent of the line through their logarithms', async () => {
    const exponents = await inBenchmarks('statistics', ({ growth }) => {
      const power = (k: number) => growth([1, 7, 100, 40_000].map((size) => [size, 3 * size ** k] as const));
      const bent = [1, 10, 10].map((cost, i) => [10 ** i, cost] as const);
      return [power(0), power(1), power(0.5), power(-1), growth(bent)];
    });
    [0, 1, 0.5, -1, 0.5].forEach((k, i) => expect(exponents[i]).toBeCloseTo(k, 10));
  });
});

test('samples are taken until the verdict is clear, and as many as an interval needs where they take too long', async () => {
  const taken = await inBenchmarks('harness', async ({ measure }) => {
    const plan = { rounds: 15, warmUpMs: 0, budgetMs: 60_000, quick: true };
    const side = (values: number[]) => {
      let calls = 0;
      return { sample: () => values[calls++ % values.length], closed: false };
    };
    const counted = async (values: number[], changes: Partial<typeof plan>, target?: { atMost: number }) => {
      const order: string[] = [];
      const [a, b] = [side(values), side([1])];
      const { subject, baseline } = await measure(
        {
          subject: () => ({ sample: () => (order.push('a'), a.sample()), close: () => void order.push('a closed') }),
          baseline: () => ({ sample: () => (order.push('b'), b.sample()), close: () => void order.push('b closed') }),
        },
        { ...plan, ...changes },
        target,
        () => undefined,
      );
      const warmUps = order.filter((each) => each === 'a').length - subject.length;
      return { samples: [subject.length, baseline.length], warmUps, ends: [order.slice(0, 10).join(' '), order.slice(-2)] };
    };
    return {
      clear: await counted([1], {}, { atMost: 2 }),
      noTarget: await counted([1, 3], {}),
      noisy: await counted([1, 3], {}, { atMost: 2 }),
      slow: await counted([1, 3], { budgetMs: 0 }, { atMost: 2 }),
    };
  });
  // Two rounds of warm-up, then each side is first in every other round.
  const ends = ['a b a b a b b a a b', ['a closed', 'b closed']];
  expect(taken).toEqual({
    clear: { samples: [15, 15], warmUps: 2, ends },
    noTarget: { samples: [15, 15], warmUps: 2, ends },
    noisy: { samples: [60, 60], warmUps: 2, ends },
    slow: { samples: [8, 8], warmUps: 1, ends: ['a b a b b a a b b a', ['a closed', 'b closed']] },
  });
});

describe('the gate', () => {
  test('slower and faster are said only when the whole interval is beyond the margin', async () => {
    const found = await inBenchmarks('gate', ({ compared }) =>
      [
        [3.01, 3.5],
        [3, 3.5],
        [1, 4],
        [1.33, 1.34],
        [1.3, 1.33],
      ].map(([low, high]) => compared({ median: low, low, high }, { ratio: 2, node: '20' })),
    );
    expect(found).toEqual(['slower', 'as recorded', 'as recorded', 'as recorded', 'faster']);
  });

  test('what was recorded on this Node counts; else the worst of other versions; what is no number is no record', async () => {
    const found = await inBenchmarks('gate', ({ earlierOf }) => {
      const all = { 20: { both: 1, one: 3 }, 22: { one: 4, broken: '4' as never }, 26: { both: 2 } };
      return [
        ['both', '26'] as const,
        ['both', '24'] as const,
        ['one', '26'] as const,
        ['none', '20'] as const,
        ['broken', '22'] as const,
      ].map(([name, major]) => earlierOf(all, name, major) ?? null);
    });
    const expected = [{ ratio: 2, node: '26' }, { ratio: 2, node: '26' }, { ratio: 4, node: '22' }, null, null];
    expect(found).toEqual(expected);
  });

  test('a regression is there at three looks; what was never recorded fails without one', async () => {
    const found = await inBenchmarks('gate', async ({ checked, isFailure }) => {
      const of = (low: number) => ({ ratio: { median: low, low, high: low } });
      const tried = async (recorded: number | undefined, answers: ({ reason: string } | ReturnType<typeof of>)[]) => {
        const bounds: unknown[] = [];
        const earlier = recorded === undefined ? undefined : { ratio: recorded, node: '20' };
        const outcome = await checked('a row: a case', earlier, (bound: unknown) => {
          bounds.push(bound);
          return Promise.resolve(answers[bounds.length - 1]);
        });
        return [outcome.finding, isFailure(outcome), bounds];
      };
      return [
        await tried(1, [of(2), of(2), of(2), of(1)]),
        await tried(1, [of(2), of(1)]),
        await tried(1, [of(0.5)]),
        await tried(undefined, []),
        await tried(1, [{ reason: 'no such processor' }]),
      ];
    });
    const bound = { atMost: 1.5 };
    expect(found).toEqual([
      ['slower', true, [bound, bound, bound]],
      ['as recorded', false, [bound, bound]],
      ['faster', false, [bound]],
      ['not recorded', true, []],
      ['not measured', false, [bound]],
    ]);
  });

  test('npm run bench:check fails where a ratio is worse, and where there is none; the last line counts', async () => {
    const path = join(temporaryDirectory(), 'recorded.json');
    const major = process.versions.node.split('.')[0];
    const check = (...args: string[]) => runBenchmarks(['--only', 'copy', '--recorded', path, ...args], 'check');
    const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1)!;

    writeFileSync(path, '{"1":{"map-close: 1000 in a row":2}}');
    const unknown = await check();
    expect(unknown).toMatchObject({ status: 1, stderr: '' });
    expect(unknown.stdout).toContain('no ratio is recorded of "copy: 64 KiB"');
    expect(unknown.stdout).toContain('run "npm run bench:check -- --record" on an idle machine');
    expect(lastLine(unknown.stdout)).toBe('0 passed, 1 failed');

    expect(await check('--record')).toMatchObject({ status: 0, stderr: 'case 1 of 1: copy: 64 KiB\n' });
    const recorded = JSON.parse(readFileSync(path, 'utf8'));
    expect(recorded).toEqual({ 1: { 'map-close: 1000 in a row': 2 }, [major]: { 'copy: 64 KiB': expect.any(Number) } });

    writeFileSync(path, JSON.stringify({ [major]: { 'copy: 64 KiB': recorded[major]['copy: 64 KiB'] / 100 } }));
    const slower = await check();
    expect(slower).toMatchObject({ status: 1, stderr: expect.stringMatching(/^(case 1 of 1: copy: 64 KiB(, again)?\n){3}$/) });
    expect(slower.stdout).toMatch(/copy: 64 KiB .* SLOWER/);
    expect(lastLine(slower.stdout)).toBe('0 passed, 1 failed');

    writeFileSync(path, 'no JSON');
    const unreadable = await check();
    expect(unreadable).toMatchObject({ status: 2, stdout: '' });
    expect(unreadable.stderr).toMatch(`${path} cannot be read: `);
  });

  test('each row that it names is there, and has a record or will get one', async () => {
    const { status, stderr } = await runBenchmarks(['--only', 'nothing'], 'check');
    const rows = 'checked-read-failed, copy, revoke, fault, map-close, fault-op-native, register-raw, first-touch';
    expect({ status, stderr }).toEqual({ status: 2, stderr: `no row begins with nothing; there are: ${rows}\n` });
  });
});

test('how far it is: a line a case into a pipe, one that changes on a terminal', async () => {
  const written = await inBenchmarks('progress', ({ progressOf }) => {
    const printed = (isTTY: boolean): string[] => {
      const lines: string[] = [];
      const progress = progressOf(2, { isTTY, write: (text: string) => lines.push(text) });
      const row = { id: 'row' } as never;
      const [first, second] = [{ label: 'first' } as never, { label: 'second' } as never];
      progress.begin(row, first);
      progress.progress(row, first, 0, 15);
      progress.begin(row, first);
      progress.begin(row, second);
      progress.progress(row, second, 14, 15);
      progress.end();
      return lines;
    };
    return [printed(false), printed(true)];
  });
  expect(written).toEqual([
    ['case 1 of 2: row: first\n', 'case 1 of 2: row: first, again\n', 'case 2 of 2: row: second\n'],
    ['\r\x1b[Kcase 1 of 2: row: first, sample 1 of 15', '\r\x1b[Kcase 2 of 2: row: second, sample 15 of 15', '\r\x1b[K'],
  ]);
});

describe('npm run bench', () => {
  const USAGE =
    'usage: npm run bench -- [--only ROW] [--quick] [--json FILE] [--from FILE] [--plots DIRECTORY] [--rivals] [--list]\n';

  test('--list names each row and says what it is', async () => {
    const { status, stdout, stderr } = await runBenchmarks(['--list']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^copy {19}bulk copy out, checked$/m);
    const ids = stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(' ')[0]);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toEqual(expect.arrayContaining(['stall-growth', 'register-raw-regions', 'rivals-read']));
  });

  test.each([
    [['--nope'], `Unknown option '--nope'\n${USAGE}`],
    [['copy'], `Unexpected argument 'copy'. This command does not take positional arguments\n${USAGE}`],
    [['--only'], `Option '--only <value>' argument missing\n${USAGE}`],
    [['--from', '/nowhere/run.json'], "ENOENT: no such file or directory, open '/nowhere/run.json'\n"],
    [['--from', __filename], `${__filename} was not written by --json\n`],
    [['--from', join(ROOT, 'package.json')], `${join(ROOT, 'package.json')} was not written by --json\n`],
    [
      ['--from', RUN, '--only', 'revoke', '--only', 'nothing'],
      'no row begins with nothing; there are: revoke-growth, revoke-pages, checked-read, fault, stall, rivals-read\n',
    ],
  ])('%j is refused: nothing is measured', async (args, message) => {
    const { status, stdout, stderr } = await runBenchmarks(args);
    expect({ status, stdout, stderr }).toEqual({ status: 2, stdout: '', stderr: message });
  });

  test('a row that there is not is refused, and those that there are are named', async () => {
    const { status, stdout, stderr } = await runBenchmarks(['--only', 'copy', '--only', 'nothing']);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^no row begins with nothing; there are: checked-read, [a-z, -]*, rivals-revoke\n$/);
  });

  test('--from shows an earlier run: ratios with their intervals, verdicts, what was not measured, exponents', async () => {
    const { status, stdout, stderr } = await runBenchmarks(['--from', RUN]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    // The cells of a line of the table, without their borders.
    const lines = stdout.split('\n').map((line) =>
      line
        .split('│')
        .map((cell) => cell.trim())
        .filter((cell) => cell !== '')
        .join(' | '),
    );
    expect(lines).toEqual(
      expect.arrayContaining([
        'checked read32 | 2.00 ns | 1.00 ns | 2.00 | ≤ 5.00 | met',
        '1 MiB in order | raw typed array | 1.83 … 2.19',
        'first touch of a truncated file, to the caught error | 15,000 ns | 3,000 ns | 5.00 | ≤ 5.00 | noisy: run it on a',
        'event-loop stall of await revoke() | 3.00 ms | 2.00 ms | 1.50 | ≤ 1.00 | missed',
        'a 32-bit word | not installed',
        "revoke-growth: cost ~ size^1.00, the baseline's ~ size^0.50",
        'a rival | the process dies of SIGBUS',
        'another | not installed',
      ]),
    );
  });

  test('--from with --only shows those rows', async () => {
    const { status, stdout } = await runBenchmarks(['--from', RUN, '--only', 'checked']);
    expect(status).toBe(0);
    expect(stdout).toContain('checked read32');
    expect(stdout).not.toContain('revokeSync');
  });

  test('--json keeps the samples, and what they were measured with', async () => {
    const file = join(temporaryDirectory(), 'run.json');
    const { status, stderr } = await runBenchmarks(['--quick', '--only', 'copy', '--json', file]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: 'case 1 of 1: copy: 64 KiB\n' });
    const run = JSON.parse(readFileSync(file, 'utf8'));
    expect(run.machine).toMatchObject({ node: process.version, v8: process.versions.v8, compiler: expect.stringMatching(/\d/) });
    expect(run.machine.glibc ?? '0.0').toMatch(/^\d+\.\d+/);
    expect(run.package.version).toBe(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version);
    expect(run.package.commit ?? '0'.repeat(40)).toMatch(/^[0-9a-f]{40}(-dirty)?$/);
    expect(run.rivals.koffi).toMatch(/^\d+\.\d+\.\d+$/); // tests have it too
    expect(run.results[0].cases[0].samples.subject.length).toBeGreaterThanOrEqual(15);
  });
});

describe('plots', () => {
  test('of a run: growth where there are three sizes, bars of accesses, distributions; what is missing and why', async () => {
    const { plots, missing } = await inBenchmarks('plots', async ({ plotsOf }) => {
      const { readFileSync } = await import('node:fs');
      return plotsOf(JSON.parse(readFileSync('test/bench/run.json', 'utf8')));
    });
    const marks = plots.map(({ name, spec }: any) => [name, spec.layer.map(({ mark }: any) => mark.type)]);
    expect(Object.fromEntries(marks)).toEqual({
      'revoke-growth': ['area', 'line'],
      access: ['bar', 'rule', 'text'],
      fault: ['line'],
      stall: ['line', 'rule', 'text'],
    });
    expect(missing).toEqual(['revoke-pages: it takes three sizes, and the run has 2']);
    // Their data is in them: nothing is fetched.
    expect(JSON.stringify(plots)).not.toMatch(/"(url|href)"/);
  });

  testUnless(whyNoVega(), 'are SVG files that open anywhere: no script, no link, nothing from elsewhere', async () => {
    const directory = temporaryDirectory();
    const { status, stdout, stderr } = await runBenchmarks(['--from', RUN, '--plots', directory]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const files = [...stdout.matchAll(/^drawn: (.*)$/gm)].map(([, file]) => file);
    const drawn: Record<string, string[]> = {};
    for (const file of files) {
      const svg = readFileSync(file, 'utf8');
      expect(svg).toMatch(/^<svg /);
      expect(svg).toContain('2 × A Processor, Linux 6.18.0, Node v20.20.2, 2026-01-02');
      expect(svg).not.toMatch(/<script|<foreignObject|<image|<use|\shref|xlink:href|\son\w+=|url\((?!#)|@import/i);
      drawn[basename(file)] = [...svg.matchAll(/class="mark-(\w+) role-mark layer/g)].map(([, mark]) => mark);
    }
    expect(drawn).toEqual({
      'revoke-growth.svg': ['area', 'area', 'line', 'line', 'symbol'],
      'access.svg': ['rect', 'rule', 'text'],
      'fault.svg': ['line', 'line'],
      'stall.svg': ['line', 'rule', 'text'],
    });
    expect(stdout).toContain('not drawn: revoke-pages: it takes three sizes, and the run has 2');
  });

  testUnless(
    whyNoVega() === undefined ? 'what draws them is installed' : undefined,
    'without what draws them they are refused before anything is measured',
    async () => {
      const { status, stdout, stderr } = await runBenchmarks(['--plots', temporaryDirectory()]);
      expect({ status, stdout, stderr }).toEqual({ status: 2, stdout: '', stderr: 'plots need "npm run bench:setup" first\n' });
    },
  );
});

/** Eighty packages that only the plots need are not among those of the package's own development. */
function whyNoVega(): string | undefined {
  try {
    require.resolve('vega-lite', { paths: [join(ROOT, 'bench')] });
    return undefined;
  } catch {
    return 'needs npm run bench:setup';
  }
}
