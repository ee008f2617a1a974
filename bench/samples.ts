import type { ContenderName } from './contenders/contender.js';

/** The measures; all but `residentBytes` are in milliseconds. */
export type Measure =
  | 'input: new'
  | 'input: there'
  | `input: new, ${string}`
  | 'graph'
  | 'output'
  | 'output: after the build'
  | 'first log line, from zero guests'
  | 'first log line'
  | 'idle: resident bytes'
  | 'idle: resident bytes, no guest'
  | 'idle: processor ms per second';

/** All samples, by measure and contender. */
export class Samples {
  readonly #samples = new Map<Measure, Map<ContenderName, number[]>>();

  add(measure: Measure, contender: ContenderName, value: number): void {
    const byContender = this.#samples.get(measure) ?? new Map<ContenderName, number[]>();
    this.#samples.set(measure, byContender);
    byContender.set(contender, [...(byContender.get(contender) ?? []), value]);
  }

  get measures(): Measure[] {
    return [...this.#samples.keys()];
  }

  median(measure: Measure, contender: ContenderName): number | undefined {
    return medianOf(this.#samples.get(measure)?.get(contender) ?? []);
  }

  toJSON(): unknown {
    return Object.fromEntries(
      [...this.#samples].map(([measure, byContender]) => [measure, Object.fromEntries(byContender)]),
    );
  }
}

/** Undefined for an empty list. */
export function medianOf(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.floor(sorted.length / 2)]];
  return low === undefined || high === undefined ? undefined : (low + high) / 2;
}
