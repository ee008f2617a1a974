import type { Verdict } from './bars.js';
import { runAsSupervisor } from './process.js';
import { medianOf } from './samples.js';

export interface Cell {
  readonly guests: number;
  readonly waiters: number;
  /** Clients that share the guests. */
  readonly domains: number;
}

export interface PlannerSample extends Cell {
  /** Processor time of one decision: a lease returned, and granted to a waiter. */
  readonly micros: number;
  readonly bytesPerWaiter: number;
}

export const CELLS: readonly Cell[] = [
  ...[10, 100, 1_000].flatMap((guests) =>
    [100, 1_000, 10_000].map((waiters) => ({ guests, waiters, domains: 1 })),
  ),
  { guests: 1_000, waiters: 10_000, domains: 10 },
];

const MAX_MICROS = 50;
const MAX_EXPONENT = 0.2;
const MAX_WAITER_BYTES = 1_024;

/** Runs the cells in a process of their own, with the flags that the supervisor has. */
export function measurePlanner(packageDir: string): PlannerSample[] {
  const lines = runAsSupervisor(packageDir, new URL('planner-cells.js', import.meta.url)).split('\n');
  return lines.map((line) => JSON.parse(line) as PlannerSample);
}

export function renderPlanner(samples: readonly PlannerSample[]): string {
  const cells = samples.map(({ guests, waiters, domains, micros, bytesPerWaiter }) =>
    [guests, waiters, domains, micros.toFixed(0), bytesPerWaiter.toFixed(0)].map((cell) =>
      String(cell).padStart(9),
    ),
  );
  return ['   guests   waiters   clients µs/decis. B/waiter', ...cells.map((row) => row.join(' '))].join(
    '\n',
  );
}

export function plannerVerdicts(samples: readonly PlannerSample[]): Verdict[] {
  const largest = samples.find((s) => s.guests === 1_000 && s.waiters === 10_000 && s.domains === 1);
  const exponent = Math.max(...exponents(samples));
  const { micros = NaN } = largest ?? {};
  const many = samples.filter(({ waiters }) => waiters === 10_000);
  const bytesPerWaiter = medianOf(many.map((sample) => sample.bytesPerWaiter)) ?? NaN;
  return [
    {
      bar: `planner: at most ${MAX_MICROS} µs a decision at 1000 guests and 10000 waiters`,
      measured: `${micros.toFixed(0)} µs`,
      met: micros <= MAX_MICROS,
    },
    {
      bar: `planner: grows with an exponent of at most ${MAX_EXPONENT} from 10 guests and 100 waiters`,
      measured: exponent.toFixed(2),
      met: exponent <= MAX_EXPONENT,
    },
    {
      bar: `planner: at most ${MAX_WAITER_BYTES} bytes a waiter`,
      measured: `${bytesPerWaiter.toFixed(0)} B`,
      met: bytesPerWaiter <= MAX_WAITER_BYTES,
    },
  ];
}

/** Exponents of the growth of the time with the number of guests, and of waiters, over the whole range. */
function exponents(samples: readonly PlannerSample[]): number[] {
  const at = (guests: number, waiters: number): number =>
    samples.find((s) => s.guests === guests && s.waiters === waiters)?.micros ?? NaN;
  const growth = (small: number, large: number): number => Math.log(large / small) / Math.log(100);
  return [
    ...[10, 100, 1_000].map((guests) => growth(at(guests, 100), at(guests, 10_000))),
    ...[100, 1_000, 10_000].map((waiters) => growth(at(10, waiters), at(1_000, waiters))),
  ];
}
