import type { Emitter } from '../lib/emitter.js';
import { collectDefaultMetrics, Registry } from 'prom-client';

import { collectFront, type FrontSource } from './front-metrics.js';
import { Instruments } from './instruments.js';
import { collectPool, type PoolSource } from './pool-metrics.js';
import { readPressure } from './pressure.js';

export interface MetricsOptions {
  readonly pool: PoolSource;
  readonly front: FrontSource;
  /** Drover's version. */
  readonly version: string;
  /** Version of Nix in the guests. */
  readonly nixVersion: string;
  /** The driver's name. */
  readonly driver: string;
  /**
   * Nix systems that guests build for, each counted separately; builds for any other system count as `other`.
   */
  readonly systems: readonly string[];
  /** Nix systems that guests should build for, and which of them they can build for now. */
  readonly service: () => { readonly wanted: readonly string[]; readonly served: readonly string[] };
  /** Emits the outcome of each reload of the configuration. */
  readonly reloads: Emitter<'ok' | 'failed'>;
}

/** Longer than any scrape interval, in milliseconds. */
const HARDLY_EVER_MS = 3_600_000;

/** Default metrics of prom-client that Drover leaves out: what concerns Node rather than what it does. */
const UNWANTED = 'nodejs_';

/**
 * Starts counting. Call it before doors open and the pool starts: earlier events are not counted. Between
 * scrapes only the event listeners run.
 */
export function collectMetrics(options: MetricsOptions): Registry {
  const { version, nixVersion, driver } = options;
  const registry = new Registry();
  const make = new Instruments(registry);
  make
    .gauge('drover_info', 'What runs: always 1.', ['version', 'nix_version', 'driver'])
    .set({ version, nix_version: nixVersion, driver }, 1);
  make.readGauge(
    'drover_system_served',
    'Whether guests build for a system that they should: 0 where they cannot, as without a translator.',
    ['system'],
    (gauge) => {
      const { wanted, served } = options.service();
      gauge.reset();
      for (const system of wanted) gauge.set({ system }, served.includes(system) ? 1 : 0);
    },
  );
  const reloads = make.counter(
    'drover_config_reloads_total',
    'Reloads of the configuration.',
    ['result'],
    [{ result: 'ok' }, { result: 'failed' }],
  );
  options.reloads.on((result) => {
    reloads.inc({ result });
  });
  make.readCounter(
    'drover_host_pressure_seconds_total',
    "Time in which some process of the host had to wait for a resource (Linux's pressure stall information).",
    'resource',
    () => readPressure('/proc/pressure'),
  );
  collectPool(options.pool, make);
  collectFront(options.front, options.systems, make);
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: HARDLY_EVER_MS });
  for (const { name } of registry.getMetricsAsArray()) {
    if (name.startsWith(UNWANTED)) registry.removeSingleMetric(name);
  }
  return registry;
}
