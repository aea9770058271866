/** `--plots`: SVG files of a run, drawn by Vega-Lite. They hold no script and refer to nothing, so they open anywhere. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { extra } from './extras.mjs';
import type { RowResult } from './harness.mjs';
import { barsPlot, boundPlot, distributionPlot, growthPlot, grows } from './plot_kinds.mjs';
import type { Plot, Spec } from './plot_parts.mjs';
import { provenance, type Run } from './run.mjs';

interface Vega {
  parse(spec: object): object;
  textMetrics: { width: (item: { fontSize: number }, text: unknown) => number };
  View: new (runtime: object, options: { renderer: 'none' }) => { toSVG(): Promise<string>; finalize(): void };
}

interface VegaLite {
  compile(spec: object): { spec: object };
}

export interface Drawn {
  files: string[];
  /** What was not drawn, and why. */
  missing: string[];
}

const ACCESS = /^(access|checked|raw|rivals-read)/;
/** On average, of a wide sans-serif font. */
const LETTER_WIDTH = 0.58;
/** Rows that a reader of the plots will look for. */
const EXPECTED_GROWTH = ['revoke-growth', 'revoke-pages'];

export function canDraw(): boolean {
  return ['vega', 'vega-lite'].every((name) => !('unavailable' in extra(name)));
}

export async function drawPlots(run: Run, directory: string): Promise<Drawn> {
  const { plots, missing } = plotsOf(run);
  mkdirSync(directory, { recursive: true });
  const files: string[] = [];
  for (const { name, spec } of plots) {
    const file = join(directory, `${name}.svg`);
    writeFileSync(file, await render(spec));
    files.push(file);
  }
  return { files, missing };
}

/** Each with what it shows; nothing is drawn yet. */
export function plotsOf(run: Run): { plots: Plot[]; missing: string[] } {
  const measured = provenance(run);
  const rows = run.results.filter(({ cases }) => cases.length > 0); // a row may have had none that could be measured here
  const plots = rows.filter(grows).map((row) => growthPlot(row, measured));
  const missing = EXPECTED_GROWTH.filter((id) => !plots.some(({ name }) => name === id)).map((id) => whyNot(rows, id));
  const access = rows.filter(({ id }) => ACCESS.test(id));
  if (access.length > 0) plots.push(barsPlot('access', 'Cost of reading 32 bits, by kind of access', access, measured));
  else missing.push('access: the rows were not run');
  for (const [id, plot] of [['fault', distributionPlot] as const, ['stall', boundPlot] as const]) {
    const row = rows.find((each) => each.id === id);
    if (row === undefined) missing.push(whyNot(rows, id));
    else plots.push(plot(row, measured));
  }
  return { plots, missing };
}

function whyNot(rows: RowResult[], id: string): string {
  const sizes = rows.find((row) => row.id === id)?.cases.length;
  return sizes === undefined ? `${id}: the row was not run` : `${id}: it takes three sizes, and the run has ${sizes}`;
}

async function render(spec: Spec): Promise<string> {
  const vega = load<Vega>('vega');
  // Without a canvas it takes letters to be much wider than they are, which leaves margins empty.
  vega.textMetrics.width = ({ fontSize }, text) => LETTER_WIDTH * fontSize * String(text).length;
  const vegaLite = load<VegaLite>('vega-lite');
  const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}

function load<T>(name: string): T {
  const found = extra<T>(name);
  if ('unavailable' in found) throw new Error(`${name}: ${found.unavailable}`);
  return found.module;
}
