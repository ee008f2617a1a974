import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

type Labels<L extends string> = Readonly<Record<L, string>>;

/**
 * Makes metrics in one registry. A metric with labels starts with a series of 0 for each of `initial`: a
 * series that appears with its first event hides that event from `rate()`, which needs an earlier value.
 */
export class Instruments {
  readonly #registers: [Registry];

  constructor(registry: Registry) {
    this.#registers = [registry];
  }

  /** `name` ends in `_total`. */
  counter<L extends string = never>(
    name: string,
    help: string,
    labelNames: readonly L[] = [],
    initial: readonly Labels<L>[] = [],
  ): Counter<L> {
    const counter = new Counter<L>({ name, help, labelNames, registers: this.#registers });
    for (const labels of initial) counter.inc(labels, 0);
    return counter;
  }

  /** A counter whose values are read when it is scraped; they must never go down. `name` ends in `_total`. */
  readCounter(
    name: string,
    help: string,
    label: string,
    read: () => Iterable<readonly [value: string, total: number]>,
  ): void {
    new Counter<string>({
      name,
      help,
      labelNames: [label],
      registers: this.#registers,
      collect() {
        this.reset();
        for (const [value, total] of read()) this.inc({ [label]: value }, total);
      },
    });
  }

  gauge<L extends string = never>(
    name: string,
    help: string,
    labelNames: readonly L[] = [],
    initial: readonly Labels<L>[] = [],
  ): Gauge<L> {
    const gauge = new Gauge<L>({ name, help, labelNames, registers: this.#registers });
    for (const labels of initial) gauge.set(labels, 0);
    return gauge;
  }

  /** A gauge whose values are set by `read` when it is scraped. */
  readGauge<L extends string = never>(
    name: string,
    help: string,
    labelNames: readonly L[],
    read: (gauge: Gauge<L>) => void,
  ): void {
    new Gauge<L>({
      name,
      help,
      labelNames,
      registers: this.#registers,
      collect() {
        read(this);
      },
    });
  }

  /** `name` ends in `_seconds`, and so are `buckets`: upper bounds, ascending. */
  histogram<L extends string>(
    name: string,
    help: string,
    buckets: readonly number[],
    labelNames: readonly L[],
    initial: readonly Labels<L>[],
  ): Histogram<L> {
    const histogram = new Histogram<L>({
      name,
      help,
      labelNames,
      buckets: [...buckets],
      registers: this.#registers,
    });
    for (const labels of initial) histogram.zero(labels);
    return histogram;
  }
}
