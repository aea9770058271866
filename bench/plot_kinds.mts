/** The kinds of plots, as Vega-Lite specifications. */
import { summarise } from 'revocable-mmap/bench';
import type { CaseResult, RowResult } from './harness.mjs';
import { coloured, framed, labels, LIBRARY, logarithmic, quantity, type Plot, type Spec } from './plot_parts.mjs';

const SIDES = ['subject', 'baseline'] as const;
type SideName = (typeof SIDES)[number];

function sampleCounts(cases: CaseResult[]): string {
  const counts = cases.map(({ samples }) => samples.subject.length);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return least === most ? `${least}` : `${least} to ${most}`;
}

/** Whether there is a growth to show: sizes that differ, and an exponent fitted to them. */
export function grows({ cases, growth }: RowResult): boolean {
  const sizes = new Set(cases.map(({ size }) => size));
  return growth !== undefined && sizes.size === cases.length && !sizes.has(undefined);
}

/** Cost over size. Both axes are logarithmic: a power is a straight line there, and its exponent the slope. */
export function growthPlot(row: RowResult, measured: string): Plot {
  const names = {
    subject: `${LIBRARY}: ${power(row.growth?.subject)}`,
    baseline: `${row.baselineName}: ${power(row.growth?.baseline)}`,
  };
  const values = SIDES.flatMap((of) =>
    row.cases.map((item) => ({ series: names[of], size: item.size as number, ...summarise(item.samples[of]) })),
  );
  const y = logarithmic(
    'median',
    'time (log scale)',
    row.unit,
    values.flatMap(({ low, high }) => [low, high]),
  );
  const explained = `Medians of ${sampleCounts(row.cases)} samples a size; the bands hold the true medians with 99 % probability.`;
  const spec = framed(row.title, explained, measured, {
    data: { values },
    encoding: { x: sizeAxis(row), color: coloured(SIDES.map((of) => names[of])) },
    layer: [
      { mark: { type: 'area', opacity: 0.25 }, encoding: { y: { ...y, field: 'low' }, y2: { field: 'high' } } },
      { mark: { type: 'line', point: { size: 50 }, strokeWidth: 2 }, encoding: { y } },
    ],
  });
  return { name: row.id, spec };
}

function power(exponent = 0): string {
  return `cost ~ size^${(Math.round(exponent * 100) / 100 + 0).toFixed(2)}`; // + 0: there is no need for a -0.00
}

/** Ticks where something was measured. */
function sizeAxis({ cases, sizeName }: RowResult): Spec {
  const sizes = cases.map(({ size }) => size as number);
  const title = `${sizeName ?? 'size'} (log scale)`;
  const unit = sizeName?.endsWith('bytes') ? 'bytes' : '';
  const axis = { title, values: sizes, labelExpr: labels(unit), labelOverlap: true };
  return { field: 'size', type: 'quantitative', scale: { type: 'log', nice: false, padding: 16 }, axis };
}

const COMPARED = 'what it is compared with';

/** Costs beside each other, a group for each row. A row of several cases has one baseline, so that is one bar. */
export function barsPlot(name: string, title: string, rows: RowResult[], measured: string): Plot {
  const groups = rows.map(barsOf);
  const bars = groups.flat();
  const costs = bars.flatMap(({ low, high }) => [low, high]);
  // A bar has to begin somewhere, and a logarithm has no zero: at a power of ten below the least.
  const from = 10 ** Math.floor(Math.log10(Math.min(...costs)) - 0.3);
  const x = logarithmic('median', 'time an access (log scale)', rows[0].unit, [from * 1.1, Math.max(...costs) * 2]);
  // A place with no bar between two groups.
  const places = groups.flatMap((group, i) => [...(i > 0 ? [`${i}${BEFORE_NAME}`] : []), ...group.map(({ place }) => place)]);
  const axis = { title: null, labelExpr: `split(datum.label, '${BEFORE_NAME}')[1]`, labelLimit: 0, ticks: false, domain: false };
  const y = { field: 'place', type: 'nominal', scale: { domain: places }, axis };
  const explained = 'Medians, each group measured in turns; the black lines hold the true medians with 99 % probability.';
  const spec = framed(title, explained, measured, {
    height: { step: 24 },
    data: { values: bars },
    encoding: { y },
    layer: barLayers(x, from),
  });
  return { name, spec };
}

function barLayers(x: Spec, from: number): Spec[] {
  const colour = { ...coloured([LIBRARY, COMPARED]), field: 'whose' };
  return [
    { mark: { type: 'bar', height: 18 }, encoding: { x, x2: { datum: from }, color: colour } },
    { mark: { type: 'rule', strokeWidth: 2 }, encoding: { x: { ...x, field: 'low' }, x2: { field: 'high' } } },
    {
      mark: { type: 'text', align: 'left', dx: 8, fontSize: 12 },
      encoding: { x: { ...x, field: 'high' }, text: { field: 'text' } },
    },
  ];
}

/** Between a row's id and a bar's name: two rows may have a bar of the same name. */
const BEFORE_NAME = '|';

interface Bar {
  place: string;
  whose: string;
  text: string;
  low: number;
  median: number;
  high: number;
}

function barsOf(row: RowResult): Bar[] {
  const bar = (name: string, isLibrary: boolean, samples: number[]): Bar => {
    const summary = summarise(samples);
    const whose = isLibrary ? LIBRARY : COMPARED;
    return { place: `${row.id}${BEFORE_NAME}${name}`, whose, text: quantity(summary.median, row.unit), ...summary };
  };
  // In rows of rivals these are the subjects, named by their cases, and the library is the baseline.
  const rivals = row.id.startsWith('rivals');
  const subjects = row.cases.map(({ label, samples }) =>
    bar(rivals || row.cases.length > 1 ? label : row.title, !rivals, samples.subject),
  );
  const baseline = row.cases.flatMap(({ samples }) => samples.baseline);
  const name = rivals ? `${row.baselineName}, checked read32` : row.baselineName;
  return [...subjects, bar(name, rivals || isView(row.baselineName), baseline)];
}

/** A raw view of a mapping is the library's as well. */
function isView(name: string): boolean {
  return name === 'raw typed array';
}

/** How the samples of both sides are spread: what share of them took at most so long. */
export function distributionPlot(row: RowResult, measured: string): Plot {
  const series = row.cases.flatMap((item) => SIDES.map((of) => seriesOf(row, item, of)));
  const names = series.map(({ name }) => name);
  const x = logarithmic(
    'value',
    'time a fault (log scale)',
    row.unit,
    series.flatMap(({ samples }) => samples),
  );
  const explained = `Share of ${sampleCounts(row.cases)} samples a side (each of ${row.cases[0].label}) that took at most so long.`;
  const spec = framed(row.title, explained, measured, {
    layer: [
      cumulative(
        series.flatMap(({ name, samples }) => shares(name, samples)),
        { x, y: SHARE, color: coloured(names) },
      ),
    ],
  });
  return { name: row.id, spec };
}

function seriesOf(row: RowResult, item: CaseResult, of: SideName): { name: string; samples: number[] } {
  const side = of === 'subject' ? LIBRARY : row.baselineName;
  const which = row.cases.length > 1 ? `${side}, ${item.label}` : side;
  return { name: `${which}: median ${quantity(item[of], row.unit)}`, samples: item.samples[of] };
}

const SHARE: Spec = {
  field: 'share',
  type: 'quantitative',
  scale: { domain: [0, 1] },
  axis: { title: 'share of the samples', labelExpr: `format(100 * datum.value, 'd') + ' %'`, tickCount: 5 },
};

function cumulative(values: Spec[], encoding: Spec): Spec {
  return { data: { values }, mark: { type: 'line', interpolate: 'step-after', strokeWidth: 2 }, encoding };
}

/** Rises by an equal step at each sample. */
function shares(series: string, samples: number[]): Spec[] {
  const sorted = [...samples].sort((a, b) => a - b);
  return [
    { series, value: sorted[0], share: 0 },
    ...sorted.map((value, i) => ({ series, value, share: (i + 1) / sorted.length })),
  ];
}

/** The same for a subject that has a bound in place of a baseline. */
export function boundPlot(row: RowResult, measured: string): Plot {
  const [item] = row.cases;
  const { subject } = item.samples;
  const bound = item.baseline * (item.target !== undefined && 'atMost' in item.target ? item.target.atMost : 1);
  const within = subject.filter((value) => value <= bound).length;
  const x = {
    field: 'value',
    type: 'quantitative',
    scale: { domain: [0, Math.max(bound, ...subject) * 1.05], nice: false },
    axis: { title: 'longest stall', labelExpr: labels(row.unit) },
  };
  const name = `${LIBRARY}, ${item.label}: median ${quantity(item.subject, row.unit)}`;
  const explained = `Share of ${subject.length} samples whose longest stall was at most so long; within the target: ${within} of ${subject.length}.`;
  const spec = framed(row.title, explained, measured, {
    layer: [
      cumulative(shares(name, subject), { x, y: SHARE, color: coloured([name]) }),
      ...ruleAt(bound, `target: ${quantity(bound, row.unit)}`, x),
    ],
  });
  return { name: row.id, spec };
}

/** An upright rule, with its words above the frame, where no curve is. */
function ruleAt(value: number, text: string, x: Spec): Spec[] {
  const data = { values: [{ value, text }] };
  const words = { type: 'text', fontSize: 13, color: '#b00020', baseline: 'bottom', dy: -4 };
  return [
    { data, mark: { type: 'rule', color: '#b00020', strokeWidth: 2, strokeDash: [6, 4] }, encoding: { x } },
    { data, mark: words, encoding: { x, y: { value: 0 }, text: { field: 'text' } } },
  ];
}
