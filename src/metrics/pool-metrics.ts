import type { Emitter } from '../lib/emitter.js';
import type { BootPhases, PoolEvent, PoolSnapshot } from '../pool/events.js';
import type { RetireReason } from '../pool/view.js';
import { GUEST_STATES, isAlive } from '../pool/state.js';
import type { Instruments } from './instruments.js';
import { BoundedLabel, namesOf } from './labels.js';

/** The part of a pool that is measured. */
export interface PoolSource {
  readonly events: Emitter<PoolEvent>;
  snapshot(): PoolSnapshot;
}

/** From namespaces, which boot in tens of milliseconds, to a machine that emulates another. */
const BOOT_BUCKETS_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300];
/** From an immediate free slot to a queue of long builds. */
const WAIT_BUCKETS_SECONDS = [0.005, 0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600];

/** Number of further reasons of failed boots that are counted by name. */
const SPARE_REASONS = 24;

const LIVE_STATES = GUEST_STATES.filter(isAlive);
/** From a hello by a socket to an emulated machine. */
const PHASE_BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const BOOT_PHASES = namesOf<keyof BootPhases>({ prepare: true, start: true, greet: true });
const BOOT_RESULTS = namesOf<'ok' | 'failed'>({ ok: true, failed: true });
const WAIT_RESULTS = namesOf<'granted' | 'refused'>({ granted: true, refused: true });
const RETIRE_REASONS = namesOf<RetireReason>({
  idle: true,
  age: true,
  builds: true,
  scratch: true,
  conflict: true,
  turn: true,
  lost: true,
  untrusted: true,
  stale: true,
  unfit: true,
  operator: true,
  shell: true,
  shutdown: true,
});

/** Guests and leases: gauges are read from the pool's snapshot at each scrape, counters from its events. */
export function collectPool(pool: PoolSource, make: Instruments): void {
  make.readGauge(
    'drover_guests',
    'Current guests, by state; those of drover run, which drover_guests_max does not limit, as program.',
    ['state'],
    (gauge) => {
      const { guests, programs } = pool.snapshot();
      for (const state of LIVE_STATES) {
        gauge.set({ state }, guests.filter((guest) => guest.state === state).length);
      }
      gauge.set({ state: 'program' }, programs.length);
    },
  );
  make.readGauge('drover_leases_waiting', 'Sessions that wait for a lease.', [], (gauge) => {
    gauge.set(pool.snapshot().waiting);
  });
  make.readGauge(
    'drover_queue_age_seconds',
    'Waiting time of the session that has waited longest.',
    [],
    (gauge) => {
      gauge.set(Math.max(0, ...pool.snapshot().queues.map(({ oldestSeconds }) => oldestSeconds)));
    },
  );
  make.readGauge('drover_leases_held', 'Leases that sessions hold: job slots in use.', [], (gauge) => {
    gauge.set(pool.snapshot().leases);
  });
  make.readGauge(
    'drover_guests_max',
    'Guests that there may be at the same time: pool.maxGuests.',
    [],
    (gauge) => {
      gauge.set(pool.snapshot().maxGuests);
    },
  );
  make.readGauge('drover_leases_max', 'Job slots of all guests that there may be.', [], (gauge) => {
    const { maxGuests, jobsPerGuest } = pool.snapshot();
    gauge.set(maxGuests * jobsPerGuest);
  });
  for (const part of ['scratch', 'memory'] as const) {
    make.readGauge(
      `drover_${part}_bytes`,
      `${part === 'scratch' ? 'Scratch' : 'Memory'} of the guests that exist, as far as it is known: used, and in all.`,
      ['what'],
      (gauge) => {
        const { guests, programs } = pool.snapshot();
        const known = [...guests, ...programs].flatMap((guest) => guest[part] ?? []);
        gauge.set(
          { what: 'used' },
          known.reduce((sum, { usedBytes }) => sum + usedBytes, 0),
        );
        gauge.set(
          { what: 'total' },
          known.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
        );
      },
    );
  }
  make.readGauge(
    'drover_scratch_fullest_ratio',
    'Part of its scratch that the fullest guest uses, from 0 to 1.',
    [],
    (gauge) => {
      const known = pool.snapshot().guests.flatMap(({ scratch }) => scratch ?? []);
      gauge.set(
        Math.max(0, ...known.map(({ usedBytes, totalBytes }) => usedBytes / Math.max(1, totalBytes))),
      );
    },
  );
  pool.events.on(poolCounters(make));
}

function poolCounters(make: Instruments): (event: PoolEvent) => void {
  const boots = make.histogram(
    'drover_boot_seconds',
    'Time from the start of a boot to a ready guest, or to its failure. Boots cancelled because no session needed them do not count.',
    BOOT_BUCKETS_SECONDS,
    ['result'],
    BOOT_RESULTS.map((result) => ({ result })),
  );
  const phases = make.histogram(
    'drover_boot_phase_seconds',
    'Time that each phase of a boot that worked took: prepare (disks and processes on the host), start (kernel and system of the guest, until it can be reached), greet (first contact).',
    PHASE_BUCKETS_SECONDS,
    ['phase'],
    BOOT_PHASES.map((phase) => ({ phase })),
  );
  const reasons = new BoundedLabel(['BOOT_FAILED', 'BOOT_TIMEOUT', 'HOST_EXHAUSTED'], SPARE_REASONS);
  const failures = make.counter(
    'drover_boot_failures_total',
    'Boots that failed, by the code of the reason.',
    ['reason'],
    reasons.initial.map((reason) => ({ reason })),
  );
  const lost = make.counter(
    'drover_guests_lost_total',
    'Guests that ended by themselves after they had booted.',
  );
  const retries = make.counter(
    'drover_share_retries_total',
    "Times that the share of the host's store lacked a file of a guest's listing for a moment.",
  );
  const retired = make.counter(
    'drover_guests_retired_total',
    'Guests retired (no further leases), by reason.',
    ['reason'],
    RETIRE_REASONS.map((reason) => ({ reason })),
  );
  const granted = make.counter('drover_leases_granted_total', 'Leases granted to sessions.');
  const refused = make.counter(
    'drover_leases_refused_total',
    'Sessions that waited for a lease and got none: their client left, no guest booted, or Drover was shutting down.',
  );
  const waits = make.histogram(
    'drover_lease_wait_seconds',
    'How long sessions waited for a lease, boots included, by outcome.',
    WAIT_BUCKETS_SECONDS,
    ['result'],
    WAIT_RESULTS.map((result) => ({ result })),
  );
  const rollouts = make.counter(
    'drover_rollouts_total',
    'Trials of guests of another image or configuration, before they replace the old ones.',
    ['result'],
    BOOT_RESULTS.map((result) => ({ result })),
  );
  return (event) => {
    switch (event.type) {
      case 'boot-finished':
        boots.observe({ result: event.result }, event.durationMs / 1000);
        if (event.result === 'ok')
          for (const phase of BOOT_PHASES) phases.observe({ phase }, (event.phases[phase] ?? 0) / 1000);
        if (event.result === 'failed') failures.inc({ reason: reasons.of(event.code ?? 'BOOT_FAILED') });
        return;
      case 'guest-state':
        if (event.to === 'failed' && event.from !== 'booting') lost.inc();
        return;
      case 'share-retried':
        retries.inc(event.retries);
        return;
      case 'rollout-finished':
        rollouts.inc({ result: event.result });
        return;
      case 'guest-retired':
        retired.inc({ reason: event.reason });
        return;
      case 'lease-granted':
        granted.inc();
        waits.observe({ result: 'granted' }, event.waitedMs / 1000);
        return;
      case 'lease-refused':
        refused.inc();
        waits.observe({ result: 'refused' }, event.waitedMs / 1000);
        return;
      // The snapshot has these.
      case 'program-started':
      case 'program-ended':
      case 'lease-waiting':
      case 'lease-returned':
        return;
    }
  };
}
