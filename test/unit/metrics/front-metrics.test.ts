import { describe, expect, test } from '@jest/globals';

import { BUILD_ENDS, type BuildEnd } from '../../../src/front/events.js';
import { MetricsBench } from './support.js';

function build(
  bench: MetricsBench,
  system: string,
  result: BuildEnd,
  durationMs = 1000,
  { waitedMs = 0, guest = 'g1' }: { waitedMs?: number; guest?: string | null } = {},
): void {
  const derivation = '/nix/store/00000000000000000000000000000000-hello.drv';
  const succeeded = result === 'Built';
  const cpuSeconds = guest === null ? null : 1.5;
  const what = {
    build: 'b1',
    derivation,
    guest,
    system,
    result,
    succeeded,
    cpuSeconds,
    waitedMs,
    durationMs,
  };
  bench.frontEvents.emit({ type: 'build-finished', ...what });
}

describe('metrics of builds', () => {
  test('are counted by system and result, and timed by system', async () => {
    const bench = new MetricsBench();
    build(bench, 'x86_64-linux', 'Built', 3000);
    build(bench, 'x86_64-linux', 'Built', 45_000);
    build(bench, 'aarch64-linux', 'PermanentFailure', 250);
    expect(await bench.value('drover_build_cpu_seconds_total{system="x86_64-linux"}')).toBe(3);
    // Waiting is not building.
    build(bench, 'i686-linux', 'Built', 9_000, { waitedMs: 8_000 });
    build(bench, 'i686-linux', 'Cancelled', 9_000, { waitedMs: 9_000, guest: null });
    expect(await bench.value('drover_builds_total{system="x86_64-linux",result="Built"}')).toBe(2);
    expect(await bench.value('drover_builds_total{system="aarch64-linux",result="PermanentFailure"}')).toBe(
      1,
    );
    expect(await bench.series('drover_build_seconds')).toMatchObject({
      'drover_build_seconds_bucket{le="5",system="x86_64-linux"}': 1,
      'drover_build_seconds_bucket{le="60",system="x86_64-linux"}': 2,
      'drover_build_seconds_sum{system="x86_64-linux"}': 48,
      'drover_build_seconds_sum{system="aarch64-linux"}': 0.25,
      'drover_build_seconds_sum{system="other"}': 1,
      'drover_build_seconds_count{system="other"}': 1,
    });
  });

  test('every result that a build can have is counted under its own name', async () => {
    const bench = new MetricsBench(['x86_64-linux']);
    for (const result of BUILD_ENDS) build(bench, 'x86_64-linux', result);
    for (const result of BUILD_ENDS) {
      expect(await bench.value(`drover_builds_total{system="x86_64-linux",result="${result}"}`)).toBe(1);
    }
  });

  test('values made up by clients add no series', async () => {
    const bench = new MetricsBench();
    const before = Object.keys(await bench.series('drover_builds_total'));
    expect(before).toHaveLength(3 * BUILD_ENDS.length);
    for (let i = 0; i < 1000; i++) build(bench, `system-${i}`, 'Error');
    build(bench, '"} 1\nforged 1', 'Built');
    build(bench, '', 'Built');
    build(bench, '__proto__', 'Error');
    expect(Object.keys(await bench.series('drover_builds_total'))).toEqual(before);
    expect(await bench.value('drover_builds_total{system="other",result="Error"}')).toBe(1001);
    expect(await bench.value('drover_builds_total{system="other",result="Built"}')).toBe(2);
    expect(await bench.registry.metrics()).not.toContain('forged');
  });

  test('replays and log lines', async () => {
    const bench = new MetricsBench();
    expect(await bench.value('drover_builds_replayed_total{cause="lost"}')).toBe(0);
    expect(await bench.value('drover_build_log_lines_total')).toBe(0);
    bench.frontEvents.emit({ type: 'build-replayed', guest: 'g1', cause: 'full' });
    for (let i = 0; i < 3; i++) bench.frontEvents.emit({ type: 'log-line' });
    expect(await bench.value('drover_builds_replayed_total{cause="full"}')).toBe(1);
    expect(await bench.value('drover_build_log_lines_total')).toBe(3);
  });

  test('paths and bytes, shared apart from copied', async () => {
    const bench = new MetricsBench();
    const event = { type: 'provisioned', guest: 'g1', durationMs: 40 } as const;
    bench.frontEvents.emit({ ...event, sharedPaths: 30, sharedBytes: 5e9, copiedPaths: 1, copiedBytes: 700 });
    bench.frontEvents.emit({ ...event, sharedPaths: 2, sharedBytes: 1000, copiedPaths: 0, copiedBytes: 0 });
    expect(await bench.series('drover_provisioned_paths_total')).toEqual({
      'drover_provisioned_paths_total{how="shared"}': 32,
      'drover_provisioned_paths_total{how="copied"}': 1,
    });
    expect(await bench.series('drover_provisioned_bytes_total')).toEqual({
      'drover_provisioned_bytes_total{how="shared"}': 5_000_001_000,
      'drover_provisioned_bytes_total{how="copied"}': 700,
    });
    expect(await bench.value('drover_provision_seconds_bucket{le="0.025"}')).toBe(0);
    expect(await bench.value('drover_provision_seconds_bucket{le="0.05"}')).toBe(2);
  });
});

describe('metrics of sessions', () => {
  const closed = { type: 'session-closed', receivedBytes: 0, sentBytes: 0 } as const;

  test('are opened, open and failed by door', async () => {
    const bench = new MetricsBench();
    for (let i = 0; i < 3; i++) bench.frontEvents.emit({ type: 'session-opened', door: 'socket' });
    bench.frontEvents.emit({ ...closed, door: 'socket', error: undefined });
    bench.frontEvents.emit({ ...closed, door: 'socket', error: 'GUEST_LOST' });
    expect(await bench.series('drover_sessions_opened_total')).toEqual({
      'drover_sessions_opened_total{door="socket"}': 3,
      'drover_sessions_opened_total{door="ssh"}': 0,
    });
    expect(await bench.series('drover_sessions_open')).toEqual({
      'drover_sessions_open{door="socket"}': 1,
      'drover_sessions_open{door="ssh"}': 0,
    });
    expect(await bench.value('drover_sessions_failed_total{door="socket",code="GUEST_LOST"}')).toBe(1);
    expect(await bench.value('drover_sessions_failed_total{door="ssh",code="GUEST_LOST"}')).toBe(0);
  });

  test('unknown error codes are admitted, up to a bound', async () => {
    const bench = new MetricsBench();
    const known = Object.keys(await bench.series('drover_sessions_failed_total')).length;
    for (let i = 0; i < 500; i++) bench.frontEvents.emit({ ...closed, door: 'ssh', error: `CODE_${i}` });
    bench.frontEvents.emit({ ...closed, door: 'ssh', error: 'no code, but a "sentence"' });
    expect(await bench.value('drover_sessions_failed_total{door="ssh",code="CODE_0"}')).toBe(1);
    expect(await bench.value('drover_sessions_failed_total{door="ssh",code="other"}')).toBe(469);
    expect(Object.keys(await bench.series('drover_sessions_failed_total'))).toHaveLength(known + 32);
  });

  test('bytes count while a session is open, and not twice when it closes', async () => {
    const bench = new MetricsBench();
    expect(await bench.value('drover_relayed_bytes_total{direction="from_client"}')).toBe(0);
    bench.openBytes = { receivedBytes: 100, sentBytes: 2000 };
    expect(await bench.value('drover_relayed_bytes_total{direction="from_client"}')).toBe(100);
    expect(await bench.value('drover_relayed_bytes_total{direction="to_client"}')).toBe(2000);
    bench.openBytes = { receivedBytes: 0, sentBytes: 0 };
    bench.frontEvents.emit({
      type: 'session-closed',
      door: 'ssh',
      error: undefined,
      receivedBytes: 110,
      sentBytes: 2500,
    });
    expect(await bench.series('drover_relayed_bytes_total')).toEqual({
      'drover_relayed_bytes_total{direction="from_client"}': 110,
      'drover_relayed_bytes_total{direction="to_client"}': 2500,
    });
    expect(bench.failures).toEqual([]);
  });
});

describe('metrics of the process', () => {
  test('say what runs', async () => {
    expect(await new MetricsBench().series('drover_info')).toEqual({
      'drover_info{version="1.2.3",nix_version="2.30.1",driver="fake"}': 1,
    });
  });

  test('say which of the systems are served, those of an earlier configuration no longer', async () => {
    const bench = new MetricsBench();
    expect(await bench.series('drover_system_served')).toEqual({
      'drover_system_served{system="aarch64-linux"}': 1,
      'drover_system_served{system="x86_64-linux"}': 0,
    });
    bench.service = { wanted: ['aarch64-linux'], served: ['aarch64-linux'] };
    expect(await bench.series('drover_system_served')).toEqual({
      'drover_system_served{system="aarch64-linux"}': 1,
    });
  });

  test('have their usual names, without those of Node', async () => {
    const text = await new MetricsBench().registry.metrics();
    for (const name of [
      'process_cpu_seconds_total',
      'process_resident_memory_bytes',
      'process_start_time_seconds',
    ]) {
      expect(text).toContain(`\n${name} `);
    }
    expect(text).not.toContain('nodejs_');
  });

  test('two registries in one process do not meet', async () => {
    const [one, two] = [new MetricsBench(), new MetricsBench()];
    build(one, 'x86_64-linux', 'Built');
    expect(await two.value('drover_builds_total{system="x86_64-linux",result="Built"}')).toBe(0);
  });
});
