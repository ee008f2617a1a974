import type { FrontEvent } from '../../../src/front/events.js';
import { Emitter } from '../../../src/lib/emitter.js';
import { collectMetrics } from '../../../src/metrics/collect.js';
import type { RelayedBytes } from '../../../src/metrics/front-metrics.js';
import type { GuestSnapshot, PoolEvent, PoolSnapshot } from '../../../src/pool/events.js';
import type { GuestState } from '../../../src/pool/state.js';

export function guestSnapshot(id: string, state: GuestState): GuestSnapshot {
  return {
    id,
    state,
    driver: 'fake',
    domain: null,
    leases: 0,
    shells: 0,
    keptBuilds: [],
    builds: 0,
    startedAt: '2025-01-01T00:00:00.000Z',
    bootedAt: null,
    idleSeconds: 0,
    asleep: false,
    scratch: null,
    memory: null,
    sharedPaths: 0,
    consoleLog: `/state/${id}.log`,
  };
}

export const EMPTY: PoolSnapshot = {
  ...{ guests: [], programs: [], maxGuests: 2, jobsPerGuest: 4, waiting: 0 },
  ...{ queues: [], leases: 0, failedBoots: null },
};

/** Emitters without a pool or a front behind them, and what they are counted to. */
export class MetricsBench {
  /** Exceptions of the event listeners: always empty. */
  readonly failures: unknown[] = [];
  readonly poolEvents = new Emitter<PoolEvent>((error) => this.failures.push(error));
  readonly frontEvents = new Emitter<FrontEvent>((error) => this.failures.push(error));
  readonly reloads = new Emitter<'ok' | 'failed'>((error) => this.failures.push(error));
  snapshot: PoolSnapshot = EMPTY;
  openBytes: RelayedBytes = { receivedBytes: 0, sentBytes: 0 };
  service = { wanted: ['aarch64-linux', 'x86_64-linux'], served: ['aarch64-linux'] };
  readonly registry;

  constructor(systems: readonly string[] = ['aarch64-linux', 'x86_64-linux']) {
    const bytes = (): RelayedBytes => this.openBytes;
    this.registry = collectMetrics({
      pool: { events: this.poolEvents, snapshot: () => this.snapshot },
      front: {
        events: this.frontEvents,
        get openBytes() {
          return bytes();
        },
      },
      version: '1.2.3',
      nixVersion: '2.30.1',
      driver: 'fake',
      systems,
      service: () => this.service,
      reloads: this.reloads,
    });
  }

  /** The series of a metric, of a histogram too: `name{labels}` → value. */
  async series(metric: string): Promise<Record<string, number>> {
    const lines = (await this.registry.metrics()).split('\n');
    const mine = lines.filter((line) => new RegExp(`^${metric}(_bucket|_sum|_count)?[ {]`).test(line));
    return Object.fromEntries(
      mine.map((line): [string, number] => {
        const end = line.lastIndexOf(' ');
        return [line.slice(0, end), Number(line.slice(end + 1))];
      }),
    );
  }

  /** One series; undefined where there is none. */
  async value(series: string): Promise<number | undefined> {
    const [name = ''] = series.split('{', 1);
    return (await this.series(name))[series];
  }
}
