import { PHASES, type Boots } from './boots.js';
import type { ContenderName } from './contenders/contender.js';
import type { Verdict } from './bars.js';
import { medianOf, type Measure, type Samples } from './samples.js';

const CONTENDERS: readonly ContenderName[] = ['local', 'classic', 'socket', 'ssh'];

/** The medians; in brackets, the speedup over the classic builder. */
export function renderMedians(samples: Samples): string {
  const rows = samples.measures.map((measure) => [
    measure,
    ...CONTENDERS.map((contender) => cell(samples, measure, contender)),
  ]);
  return renderTable([['medians', 'local', 'classic', 'Drover, socket door', 'Drover, ssh door'], ...rows]);
}

function cell(samples: Samples, measure: Measure, contender: ContenderName): string {
  const value = samples.median(measure, contender);
  if (value === undefined) return '';
  if (measure.startsWith('idle: resident bytes')) return `${(value / 1e6).toFixed(1)} MB`;
  if (measure === 'idle: processor ms per second') return value.toFixed(1);
  const text = value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(0)} ms`;
  const classic = samples.median(measure, 'classic');
  return classic === undefined || contender === 'classic'
    ? text
    : `${text} (${(classic / value).toFixed(1)} ×)`;
}

/** Durations of cold starts and of their phases; with several kernels, their medians side by side. */
export function renderBoots(boots: readonly Boots[]): string {
  const [first, ...others] = boots;
  if (first === undefined || others.length === 0) return boots.map(renderKernel).join('\n\n');
  const rows = bootRows(first).map(([name, values], index) => {
    const usual = medianOf(values);
    const more = others.flatMap((other) => {
      const median = medianOf(bootRows(other)[index]?.[1] ?? []);
      const ratio = usual === undefined || median === undefined ? '' : `${(median / usual).toFixed(2)} ×`;
      return [milliseconds(median), ratio];
    });
    return [name, milliseconds(usual), ...more];
  });
  const heads = others.flatMap(({ kernel }) => [kernel, '']);
  return [...boots.map(renderKernel), renderTable([['medians', first.kernel, ...heads], ...rows])].join(
    '\n\n',
  );
}

function renderKernel({ kernel, starts, failures }: Boots): string {
  const rows = bootRows({ starts }).filter(([, values]) => values.length > 0);
  const table = renderTable([
    [
      `cold starts, ${kernel}: ${starts.length}, failed: ${failures.length}`,
      'least',
      'median',
      '90 %',
      'most',
    ],
    ...rows.map(([name, values]) => {
      const sorted = [...values].sort((a, b) => a - b);
      const at = (part: number): number | undefined =>
        sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)];
      return [name, ...[at(0), medianOf(sorted), at(0.9), at(1)].map(milliseconds)];
    }),
  ]);
  return [table, ...failures].join('\n\n');
}

function bootRows({ starts }: Pick<Boots, 'starts'>): [string, number[]][] {
  return [
    ['to the first log line', starts.map(({ firstLogMs }) => firstLogMs)],
    ...PHASES.map((phase): [string, number[]] => [
      `  ${phase}`,
      starts.flatMap(({ phases }) => phases[phase] ?? []),
    ]),
    ['to the end of the client', starts.map(({ totalMs }) => totalMs)],
  ];
}

function milliseconds(value: number | undefined): string {
  return value === undefined ? '' : `${value.toFixed(0)} ms`;
}

export function renderVerdicts(verdicts: readonly Verdict[]): string {
  return renderTable([
    ['bar', 'measured', ''],
    ...verdicts.map(({ bar, measured, met }) => [
      bar,
      measured,
      met === undefined ? 'not measured' : met ? 'met' : 'MISSED',
    ]),
  ]);
}

export function renderTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((text, column) => text.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
