/** What the plots have in common: frame, colours, and numbers with their units. */

/** A piece of a Vega-Lite specification. */
export type Spec = Record<string, unknown>;

export interface Plot {
  /** Of the file, without its extension. */
  name: string;
  spec: Spec;
}

export const LIBRARY = 'revocable-mmap';

// Colours that people who do not see all colours can tell apart: the set of Okabe and Ito.
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000'];

const CONFIG = {
  font: 'sans-serif',
  axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: 'normal', titlePadding: 10, gridColor: '#e4e4e4' },
  title: { anchor: 'start', fontSize: 17, subtitleFontSize: 12, subtitleColor: '#555', subtitlePadding: 6, offset: 14 },
  legend: { labelFontSize: 12, labelLimit: 0, symbolStrokeWidth: 3 },
  view: { stroke: '#ccc' },
};

/** Title, a line on what is shown, a line on where it was measured. */
export function framed(title: string, explained: string, measured: string, rest: Spec): Spec {
  return {
    background: 'white',
    padding: 16,
    config: CONFIG,
    width: 640,
    height: 380,
    title: { text: capitalised(title), subtitle: [explained, measured] },
    ...rest,
  };
}

/** Unless it begins with the name of a function. */
function capitalised(title: string): string {
  return /^[a-z]+[ -]/.test(title) ? title[0].toUpperCase() + title.slice(1) : title;
}

/** A colour for each series, in their order, with the legend above the plot. */
export function coloured(series: string[]): Spec {
  const range = series.map((_, i) => COLOURS[i % COLOURS.length]);
  const legend = { orient: 'top', direction: 'vertical', offset: 24, symbolOpacity: 1, title: null };
  return { field: 'series', type: 'nominal', scale: { domain: series, range }, legend };
}

/** A logarithmic axis of values in `unit`, whose ticks are round numbers. */
export function logarithmic(field: string, title: string, unit: string, values: number[]): Spec {
  const domain = [Math.min(...values) / 1.1, Math.max(...values) * 1.1];
  const axis = { title, values: roundNumbers(domain[0], domain[1]), labelExpr: labels(unit), labelOverlap: true };
  return { field, type: 'quantitative', scale: { type: 'log', domain, nice: false }, axis };
}

/** Not only powers of ten where there are few of them. */
function roundNumbers(low: number, high: number): number[] {
  const decades = Math.log10(high / low);
  const steps = decades > 2 ? [1] : decades > 1 ? [1, 2, 3, 5, 7] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
  const numbers: number[] = [];
  for (let exponent = Math.floor(Math.log10(low)); 10 ** exponent <= high; exponent++) {
    for (const step of steps) numbers.push(Number(`${step}e${exponent}`));
  }
  return numbers.filter((each) => each >= low && each <= high);
}

const LADDERS: Record<string, [least: number, unit: string][]> = {
  ns: [
    [1e9, 's'],
    [1e6, 'ms'],
    [1e3, 'µs'],
  ],
  bytes: [
    [2 ** 30, 'GiB'],
    [2 ** 20, 'MiB'],
    [2 ** 10, 'KiB'],
  ],
};

/** A Vega expression that writes a tick's value in the unit that suits it: 16000 ns as 16 µs. Counts have no unit. */
export function labels(unit: string): string {
  const plain = unit === '' ? `format(datum.value, ',d')` : `format(datum.value, '~r') + ' ${unit}'`;
  return (LADDERS[unit] ?? []).reduceRight(
    (smaller, [least, name]) => `datum.value >= ${least} ? format(datum.value / ${least}, '~r') + ' ${name}' : ${smaller}`,
    plain,
  );
}

/** The same in this language, to three digits. */
export function quantity(value: number, unit: string): string {
  const [least, name] = LADDERS[unit]?.find(([each]) => value >= each) ?? [1, unit];
  return `${Number((value / least).toPrecision(3))} ${name}`;
}
