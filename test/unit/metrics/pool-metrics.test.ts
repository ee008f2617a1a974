import { describe, expect, test } from '@jest/globals';

import { EMPTY, guestSnapshot, MetricsBench } from './support.js';

describe('metrics of the pool', () => {
  test('guests and leases are what the snapshot says at the moment of the scrape', async () => {
    const bench = new MetricsBench();
    expect(await bench.series('drover_guests')).toEqual({
      'drover_guests{state="booting"}': 0,
      'drover_guests{state="ready"}': 0,
      'drover_guests{state="leased"}': 0,
      'drover_guests{state="draining"}': 0,
      'drover_guests{state="program"}': 0,
    });
    bench.snapshot = {
      ...EMPTY,
      guests: [guestSnapshot('g1', 'leased'), guestSnapshot('g2', 'leased'), guestSnapshot('g3', 'booting')],
      waiting: 4,
      queues: [12, 30].map((oldestSeconds) => ({ domain: 'uid:0', waiting: 2, oldestSeconds, reason: '' })),
      leases: 3,
    };
    expect(await bench.value('drover_guests{state="leased"}')).toBe(2);
    expect(await bench.value('drover_guests{state="booting"}')).toBe(1);
    expect(await bench.value('drover_leases_waiting')).toBe(4);
    expect(await bench.value('drover_leases_held')).toBe(3);
    expect(await bench.value('drover_queue_age_seconds')).toBe(30);
    bench.snapshot = EMPTY;
    expect(await bench.value('drover_guests{state="leased"}')).toBe(0);
  });

  test('boots are timed in seconds, by result, and those that worked by phase', async () => {
    const bench = new MetricsBench();
    const ok = { type: 'boot-finished', guest: 'g1', result: 'ok' } as const;
    bench.poolEvents.emit({ ...ok, durationMs: 400, phases: { prepare: 100, start: 250, greet: 50 } });
    bench.poolEvents.emit({ ...ok, durationMs: 1600, phases: { prepare: 100, start: 1400, greet: 100 } });
    const phases = { prepare: 90_000 };
    bench.poolEvents.emit({ ...ok, result: 'failed', durationMs: 90_000, phases });
    expect(await bench.series('drover_boot_phase_seconds')).toMatchObject({
      'drover_boot_phase_seconds_sum{phase="prepare"}': 0.2,
      'drover_boot_phase_seconds_sum{phase="start"}': 1.65,
      'drover_boot_phase_seconds_bucket{le="0.25",phase="start"}': 1,
      'drover_boot_phase_seconds_count{phase="greet"}': 2,
    });
    expect(await bench.series('drover_boot_seconds')).toMatchObject({
      'drover_boot_seconds_bucket{le="0.25",result="ok"}': 0,
      'drover_boot_seconds_bucket{le="0.5",result="ok"}': 1,
      'drover_boot_seconds_bucket{le="2.5",result="ok"}': 2,
      'drover_boot_seconds_sum{result="ok"}': 2,
      'drover_boot_seconds_count{result="ok"}': 2,
      'drover_boot_seconds_sum{result="failed"}': 90,
      'drover_boot_seconds_count{result="failed"}': 1,
    });
  });

  test('failed boots are counted by reason, of which there are only so many', async () => {
    const bench = new MetricsBench();
    const failed = {
      type: 'boot-finished',
      guest: 'g1',
      result: 'failed',
      durationMs: 1,
      phases: {},
    } as const;
    bench.poolEvents.emit({ ...failed, code: 'BOOT_TIMEOUT' });
    bench.poolEvents.emit({ ...failed, code: 'ENOSPC' });
    for (let index = 0; index < 100; index++) bench.poolEvents.emit({ ...failed, code: `E${index}` });
    const series = await bench.series('drover_boot_failures_total');
    expect(series).toMatchObject({
      'drover_boot_failures_total{reason="BOOT_TIMEOUT"}': 1,
      'drover_boot_failures_total{reason="ENOSPC"}': 1,
      'drover_boot_failures_total{reason="HOST_EXHAUSTED"}': 0,
    });
    expect(Object.keys(series).length).toBeLessThan(30);
  });

  test('capacity and scratch are those of the pool', async () => {
    const bench = new MetricsBench();
    const [full, unknown] = [guestSnapshot('g1', 'leased'), guestSnapshot('g2', 'ready')];
    bench.snapshot = {
      ...EMPTY,
      guests: [
        { ...full, scratch: { usedBytes: 3, totalBytes: 4 }, memory: { usedBytes: 5, totalBytes: 6 } },
        unknown,
      ],
      programs: [
        {
          ...{ id: 'g3', driver: 'fake', program: 'hello', startedAt: '', bootedAt: null, consoleLog: '' },
          ...{ scratch: null, memory: { usedBytes: 2, totalBytes: 6 } },
        },
      ],
    };
    expect(await bench.value('drover_guests{state="program"}')).toBe(1);
    bench.poolEvents.emit({ type: 'share-retried', guest: 'g1', retries: 2 });
    expect(await bench.value('drover_share_retries_total')).toBe(2);
    expect(await bench.value('drover_memory_bytes{what="used"}')).toBe(7);
    expect(await bench.value('drover_guests_max')).toBe(2);
    expect(await bench.value('drover_leases_max')).toBe(8);
    expect(await bench.value('drover_scratch_bytes{what="used"}')).toBe(3);
    expect(await bench.value('drover_scratch_bytes{what="total"}')).toBe(4);
    expect(await bench.value('drover_scratch_fullest_ratio')).toBe(0.75);
  });

  test('leases granted and refused are counted, and their waits timed', async () => {
    const bench = new MetricsBench();
    bench.poolEvents.emit({ type: 'lease-waiting' });
    bench.poolEvents.emit({ type: 'lease-granted', guest: 'g1', waitedMs: 500 });
    bench.poolEvents.emit({ type: 'lease-granted', guest: 'g1', waitedMs: 0 });
    bench.poolEvents.emit({ type: 'lease-refused', waitedMs: 30_000 });
    bench.poolEvents.emit({ type: 'lease-returned', guest: 'g1' });
    expect(await bench.value('drover_leases_granted_total')).toBe(2);
    expect(await bench.value('drover_leases_refused_total')).toBe(1);
    expect(await bench.series('drover_lease_wait_seconds')).toMatchObject({
      'drover_lease_wait_seconds_bucket{le="0.005",result="granted"}': 1,
      'drover_lease_wait_seconds_bucket{le="1",result="granted"}': 2,
      'drover_lease_wait_seconds_sum{result="granted"}': 0.5,
      'drover_lease_wait_seconds_sum{result="refused"}': 30,
      'drover_lease_wait_seconds_count{result="refused"}': 1,
    });
  });

  test('a guest that dies is lost, one that never booted is not', async () => {
    const bench = new MetricsBench();
    const move = { type: 'guest-state', guest: 'g1', reason: 'killed' } as const;
    bench.poolEvents.emit({ ...move, from: undefined, to: 'booting' });
    bench.poolEvents.emit({ ...move, from: 'booting', to: 'failed' });
    expect(await bench.value('drover_guests_lost_total')).toBe(0);
    bench.poolEvents.emit({ ...move, from: 'leased', to: 'failed' });
    bench.poolEvents.emit({ ...move, from: 'draining', to: 'stopped' });
    expect(await bench.value('drover_guests_lost_total')).toBe(1);
  });

  test('guests are retired by reason', async () => {
    const bench = new MetricsBench();
    bench.poolEvents.emit({ type: 'guest-retired', guest: 'g1', reason: 'idle' });
    bench.poolEvents.emit({ type: 'guest-retired', guest: 'g2', reason: 'idle' });
    bench.poolEvents.emit({ type: 'guest-retired', guest: 'g3', reason: 'scratch' });
    const series = await bench.series('drover_guests_retired_total');
    expect(series).toMatchObject({
      'drover_guests_retired_total{reason="idle"}': 2,
      'drover_guests_retired_total{reason="scratch"}': 1,
      'drover_guests_retired_total{reason="stale"}': 0,
    });
    expect(Object.keys(series)).toHaveLength(13);
    expect(bench.failures).toEqual([]);
  });
});
