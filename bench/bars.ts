import type { Boots } from './boots.js';
import type { ContenderName } from './contenders/contender.js';
import type { DriverName } from './options.js';
import type { Samples } from './samples.js';
import { medianOf, type Measure } from './samples.js';

export interface Verdict {
  readonly bar: string;
  readonly measured: string;
  /** Undefined: not measured in this run. */
  readonly met: boolean | undefined;
}

export interface Bars {
  readonly growth: readonly [Measure, Measure];
  readonly driver: DriverName;
  /** Whether guests are emulated: a local build is not, so it cannot be compared with theirs. */
  readonly emulated: boolean;
}

const IDLE_BYTES = 80_000_000;
const COLD_MS = { namespace: 500, qemu: 4_000 } as const;
/** Share of all cold starts. */
const BOOTS_THAT_WORK = 0.99;
/** Milliseconds per second of one core: one tick of the kernel's clock in five seconds counts as idle. */
const IDLE_CPU_MS = 4;
/** Ratio by which two measurements of the same thing may differ. */
const NOISE = 1.25;

/**
 * Compares each promise of Drover with the measurements. Against a VM that does the same work, Drover must
 * not be slower than others: how much faster it is depends on the accelerator.
 */
export function verdicts(samples: Samples, { growth, driver, emulated }: Bars): Verdict[] {
  const [small, large] = growth;
  return [
    ...(['socket', 'ssh'] as const).flatMap((door) => [
      faster(samples, 'input: new', door, 'classic', driver === 'namespace' ? 30 : 1),
      faster(samples, 'input: there', door, 'classic', driver === 'namespace' ? 4 : 1),
      {
        bar: `${door} door: an input 100 times as large takes the same time`,
        ...atMost(quotient(samples.median(large, door), samples.median(small, door)), NOISE, '× the time'),
      },
      faster(samples, 'graph', door, 'classic', driver === 'namespace' ? 10 : 1),
      ...(emulated ? [] : besideLocal(samples, door)),
      faster(samples, 'output', door, 'classic', door === 'socket' ? 1.5 : 0.8),
      {
        bar: `${door} door: first log line from zero guests within ${COLD_MS[driver] / 1000} s`,
        ...atMost(samples.median('first log line, from zero guests', door), COLD_MS[driver], ' ms'),
      },
    ]),
    ...(['idle: resident bytes', 'idle: resident bytes, no guest'] as const).map((measure) => ({
      bar: `idle supervisor, ${measure.endsWith('no guest') ? 'no guest' : 'a guest waiting'}: at most 80 MB resident`,
      ...atMost(quotient(samples.median(measure, 'socket'), 1e6), IDLE_BYTES / 1e6, ' MB'),
    })),
    {
      bar: 'idle supervisor: no measurable processor time',
      ...atMost(samples.median('idle: processor ms per second', 'socket'), IDLE_CPU_MS, ' ms/s'),
    },
  ];
}

export function bootVerdicts({ starts, failures }: Boots, { driver }: Pick<Bars, 'driver'>): Verdict[] {
  const all = starts.length + failures.length;
  return [
    {
      bar: `${BOOTS_THAT_WORK * 100} of 100 cold starts work`,
      measured: `${starts.length} of ${all}`,
      met: starts.length / all >= BOOTS_THAT_WORK,
    },
    {
      bar: `cold starts: first log line within ${COLD_MS[driver] / 1000} s`,
      ...atMost(medianOf(starts.map(({ firstLogMs }) => firstLogMs)), COLD_MS[driver], ' ms'),
    },
  ];
}

function besideLocal(samples: Samples, door: ContenderName): Verdict[] {
  return [
    {
      bar: `${door} door, input: new: adds at least 30 × less to a local build than classic`,
      ...added(samples, door),
    },
    {
      bar: `${door} door, graph: at most 2.5 × local`,
      ...atMost(quotient(samples.median('graph', door), samples.median('graph', 'local')), 2.5, '× local'),
    },
  ];
}

function faster(
  samples: Samples,
  measure: Measure,
  contender: ContenderName,
  than: ContenderName,
  times: number,
): Verdict {
  const ratio = quotient(samples.median(measure, than), samples.median(measure, contender));
  return {
    bar: `${contender} door, ${measure}: at least ${times} × as fast as ${than}`,
    measured: ratio === undefined ? '-' : `${ratio.toFixed(2)} ×`,
    met: ratio === undefined ? undefined : ratio >= times,
  };
}

/** The client's own time is the same for all, and limits every other ratio. */
function added(samples: Samples, door: ContenderName): Pick<Verdict, 'measured' | 'met'> {
  const local = samples.median('input: new', 'local') ?? NaN;
  const classic = (samples.median('input: new', 'classic') ?? NaN) - local;
  const ratio = classic / ((samples.median('input: new', door) ?? NaN) - local);
  if (Number.isNaN(ratio)) return { measured: '-', met: undefined };
  return { measured: `${ratio.toFixed(2)} ×`, met: ratio >= 30 };
}

function atMost(value: number | undefined, limit: number, unit: string): Pick<Verdict, 'measured' | 'met'> {
  if (value === undefined) return { measured: '-', met: undefined };
  return { measured: `${value.toFixed(2)}${unit}`, met: value <= limit };
}

function quotient(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a / b;
}
