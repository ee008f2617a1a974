import type { Emitter } from '../lib/emitter.js';
import { collectDefaultMetrics, Registry } from 'prom-client';

import { collectFront, type FrontSource } from './front-metrics.js';
import { Instruments } from './instruments.js';
import { collectPool, type PoolSource } from './pool-metrics.js';

export interface MetricsOptions {
  readonly pool: PoolSource;
  readonly front: FrontSource;
  /** Drover's version. */
  readonly version: string;
  /** Of the guests. */
  readonly nixVersion: string;
  /** The driver's name. */
  readonly driver: string;
  /** Nix systems that are built here, which are counted apart: builds for any other are `other`. */
  readonly systems: readonly string[];
  /** Each time that the configuration was read again, how that went. */
  readonly reloads: Emitter<'ok' | 'failed'>;
}

/** Longer than any scrape interval, in milliseconds. */
const HARDLY_EVER_MS = 3_600_000;

/**
 * prom-client's own metrics that are of no use here. Those of the event loop's delay are sampled by a timer: at its
 * usual 10 ms it wakes an idle process 100 times a second, and there is no way to have the others without it. Those
 * that end in `_total` are gauges, which promtool rejects; the same figures come by type under names without it.
 */
const UNWANTED = [
  'nodejs_eventloop_lag_min_seconds',
  'nodejs_eventloop_lag_max_seconds',
  'nodejs_eventloop_lag_mean_seconds',
  'nodejs_eventloop_lag_stddev_seconds',
  'nodejs_eventloop_lag_p50_seconds',
  'nodejs_eventloop_lag_p90_seconds',
  'nodejs_eventloop_lag_p99_seconds',
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

/**
 * Begins to count. Call it before doors open and the pool starts: what has happened by then is not in the counters.
 * Nothing runs between scrapes but the listeners of events.
 */
export function collectMetrics(options: MetricsOptions): Registry {
  const { version, nixVersion, driver } = options;
  const registry = new Registry();
  const make = new Instruments(registry);
  make
    .gauge('drover_info', 'What runs: always 1.', ['version', 'nix_version', 'driver'])
    .set({ version, nix_version: nixVersion, driver }, 1);
  const reloads = make.counter(
    'drover_config_reloads_total',
    'Times that the configuration was read again.',
    ['result'],
    [{ result: 'ok' }, { result: 'failed' }],
  );
  options.reloads.on((result) => {
    reloads.inc({ result });
  });
  collectPool(options.pool, make);
  collectFront(options.front, options.systems, make);
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: HARDLY_EVER_MS });
  for (const name of UNWANTED) registry.removeSingleMetric(name);
  return registry;
}
