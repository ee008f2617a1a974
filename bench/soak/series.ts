import { medianOf } from '../samples.js';

/** State of the supervisor at one moment. */
export interface Sample {
  /** Since the beginning of the soak, in minutes. */
  readonly minutes: number;
  readonly residentBytes: number;
  readonly descriptors: number;
  /** Size of the state directory, and of the history in it. */
  readonly stateBytes: number;
  readonly historyBytes: number;
  /** Processor time of the supervisor since the sample before, as a part of one core. */
  readonly processor: number;
  /** Builds that have ended so far. */
  readonly builds: number;
  /** Durations of the supervisor's answers since the sample before, in milliseconds. */
  readonly answersMs: readonly number[];
}

export interface SoakVerdict {
  readonly bar: string;
  readonly measured: string;
  readonly met: boolean;
}

/** Part of the soak in which caches and tables fill up. */
const WARM_UP = 1 / 4;
/** Ratio of the mean of the last quarter to that of the second. */
const MAX_GROWTH = 1.1;
/** Growth by the straight line through all samples after the warm-up, over their whole time. */
const MAX_SLOPE = 0.1;
const MAX_ANSWER_MS = 50;
const ROWS = 12;
/** The history may exceed its limit by one segment. */
const SEGMENT_BYTES = 1024 * 1024;

/** Slope of the line through the points by least squares; 0 for fewer than two. */
export function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const [x, y] = [meanOf(points.map(([at]) => at)), meanOf(points.map(([, value]) => value))];
  const spread = points.reduce((sum, [at]) => sum + (at - x) ** 2, 0);
  return spread === 0 ? 0 : points.reduce((sum, [at, value]) => sum + (at - x) * (value - y), 0) / spread;
}

/** Smallest value that is not exceeded by this part of the values; 0 if there are none. */
export function quantileOf(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? 0;
}

export function soakVerdicts(samples: readonly Sample[], maxHistoryBytes: number): SoakVerdict[] {
  const answers = samples.flatMap(({ answersMs }) => answersMs);
  const p99 = quantileOf(answers, 0.99);
  const history = Math.max(0, ...samples.map(({ historyBytes }) => historyBytes));
  return [
    ...steady(samples, 'resident memory', ({ residentBytes }) => residentBytes, megabytes),
    ...steady(
      samples,
      'descriptors',
      ({ descriptors }) => descriptors,
      (value) => value.toFixed(1),
    ),
    {
      bar: 'history stays within history.maxBytes and a segment',
      measured: megabytes(history),
      met: history <= maxHistoryBytes + SEGMENT_BYTES,
    },
    {
      bar: `99 % of all answers within ${MAX_ANSWER_MS} ms`,
      measured: `${p99.toFixed(1)} ms`,
      met: p99 <= MAX_ANSWER_MS,
    },
  ];
}

function steady(
  samples: readonly Sample[],
  name: string,
  valueOf: (sample: Sample) => number,
  show: (value: number) => string,
): SoakVerdict[] {
  const total = samples.at(-1)?.minutes ?? 0;
  const between = (from: number, to: number): Sample[] =>
    samples.filter(({ minutes }) => minutes >= from * total && minutes <= to * total);
  const second = meanOf(between(WARM_UP, 0.5).map(valueOf));
  const last = meanOf(between(0.75, 1).map(valueOf));
  const warm = between(WARM_UP, 1);
  const slope = slopeOf(warm.map((sample) => [sample.minutes, valueOf(sample)] as const));
  const growth = (slope * total * (1 - WARM_UP)) / meanOf(warm.map(valueOf));
  return [
    {
      bar: `${name}: last quarter at most ${MAX_GROWTH} × the second`,
      measured: `${show(second)} to ${show(last)}: ${(last / second).toFixed(3)} ×`,
      met: last / second <= MAX_GROWTH,
    },
    {
      bar: `${name}: grows by at most ${MAX_SLOPE * 100} % after the warm-up`,
      measured: `${(growth * 100).toFixed(1)} %, ${show(slope * 60)} an hour`,
      met: growth <= MAX_SLOPE,
    },
  ];
}

/** A row for each twelfth of the time. */
export function soakRows(samples: readonly Sample[]): string[][] {
  const total = samples.at(-1)?.minutes ?? 0;
  const rows = Array.from({ length: ROWS }, (_, index) =>
    samples.filter(({ minutes }) => Math.ceil((minutes / total) * ROWS) === index + 1),
  );
  return [
    [
      'minutes',
      'builds',
      'resident',
      'descriptors',
      'state',
      'history',
      'processor',
      'answers: median',
      '99 %',
      'most',
    ],
    ...rows.flatMap((row) => {
      const last = row.at(-1);
      if (last === undefined) return [];
      const answers = row.flatMap(({ answersMs }) => answersMs);
      return [
        [
          last.minutes.toFixed(1),
          String(last.builds),
          megabytes(meanOf(row.map(({ residentBytes }) => residentBytes))),
          String(Math.max(...row.map(({ descriptors }) => descriptors))),
          megabytes(last.stateBytes),
          megabytes(last.historyBytes),
          `${(meanOf(row.map(({ processor }) => processor)) * 100).toFixed(1)} %`,
          ...[medianOf(answers) ?? 0, quantileOf(answers, 0.99), quantileOf(answers, 1)].map(
            (value) => `${value.toFixed(1)} ms`,
          ),
        ],
      ];
    }),
  ];
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
