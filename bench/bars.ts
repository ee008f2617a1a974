import type { ContenderName } from './contenders/contender.js';
import type { Measure, Samples } from './samples.js';

export interface Verdict {
  readonly bar: string;
  readonly measured: string;
  /** Undefined: not measured in this run. */
  readonly met: boolean | undefined;
}

export interface Bars {
  readonly growth: readonly [Measure, Measure];
}

const IDLE_BYTES = 80_000_000;
const COLD_MS = 500;
/** Of one core, in milliseconds per second: one tick of the kernel's clock in five seconds is no work. */
const IDLE_CPU_MS = 4;
/** What a measurement of two equal things may differ by. */
const NOISE = 1.25;

/** What Drover promises, each held against what was measured. */
export function verdicts(samples: Samples, { growth }: Bars): Verdict[] {
  const [small, large] = growth;
  return [
    ...(['socket', 'ssh'] as const).flatMap((door) => [
      faster(samples, 'input: new', door, 'classic', 30),
      faster(samples, 'input: there', door, 'classic', 4),
      {
        bar: `${door} door: an input 100 times as large takes no longer`,
        ...atMost(quotient(samples.median(large, door), samples.median(small, door)), NOISE, '× the time'),
      },
      {
        bar: `${door} door, input: new: what it adds to a local build is at least 30 × less than classic's`,
        ...added(samples, door),
      },
      faster(samples, 'graph', door, 'classic', 10),
      {
        bar: `${door} door, graph: at most 2.5 × local`,
        ...atMost(quotient(samples.median('graph', door), samples.median('graph', 'local')), 2.5, '× local'),
      },
      faster(samples, 'output', door, 'classic', door === 'socket' ? 1.5 : 0.8),
      {
        bar: `${door} door: first log line from zero guests within 0.5 s`,
        ...atMost(samples.median('first log line, from zero guests', door), COLD_MS, ' ms'),
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

/** The client's own time is the same for all, and sets a limit to every other ratio. */
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
