import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';

import { BuildHistory } from '../../../src/history/history.js';
import { HistoryJournal } from '../../../src/history/journal.js';
import { FakeClock } from '../../support/fake-clock.js';
import { HOST_CLIENT, SILENT } from '../../support/front-bench.js';

const LIMITS = { keepMs: 3_600_000, maxBuilds: 100, maxBytes: 1024 ** 3, logs: 'all' } as const;
const DERIVATION = '/nix/store/00000000000000000000000000000000-hello-2.12.drv';
const INPUTS = { sharedPaths: 3, sharedBytes: 30, copiedPaths: 1, copiedBytes: 10 };

let dir: string;
let clock: FakeClock;
let history: BuildHistory;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'drover-journal-'));
  clock = new FakeClock();
  history = await BuildHistory.open({ dir, clock, log: SILENT, limits: LIMITS });
});
afterEach(async () => {
  await history.close();
  await rm(dir, { recursive: true });
});

function begin() {
  const facts = { derivation: DERIVATION, system: 'x86_64-linux', client: HOST_CLIENT };
  return new HistoryJournal(history, clock).begin(facts);
}

test('keeps every step of a build, its replay and what it has used', async () => {
  const entry = begin();
  entry.leased('g1', 'image-1');
  entry.provisioned(INPUTS);
  entry.replayed('g1', 'The guest g1 was lost: unplugged');
  await clock.advance(100);
  entry.leased('g2', 'image-1');
  entry.provisioned(INPUTS);
  entry.started();
  void entry.addLog('one');
  entry.used({ source: 'proc', cpuSeconds: 2, memoryBytes: 50, readBytes: 1, writtenBytes: 1 });
  entry.used({ source: 'proc', cpuSeconds: 3, memoryBytes: 20, readBytes: 2, writtenBytes: 2 });
  await clock.advance(100);
  entry.ended({ result: 'Built', succeeded: true, error: null, cpuMicros: null });
  entry.left(4_096);
  await history.close();
  const start = clock.wallNow() - 200;
  expect(await history.get(1)).toEqual({
    ...{ id: 1, derivation: DERIVATION, name: 'hello-2.12', system: 'x86_64-linux' },
    client: { door: 'socket', domain: 'uid:0', name: 'uid 0' },
    ...{ guest: 'g2', generation: 'image-1', result: 'Built', succeeded: true, error: null },
    times: {
      ...{ asked: start, leased: start + 100, provisioned: start + 100, started: start + 100 },
      ...{ ended: start + 200, fetched: start + 200 },
    },
    replays: [{ guest: 'g1', reason: 'The guest g1 was lost: unplugged', at: start }],
    inputs: { shared: 6, sharedBytes: 60, copied: 2, copiedBytes: 20 },
    relayedBytes: 4_096,
    usage: { source: 'proc', cpuSeconds: 3, peakMemoryBytes: 50, readBytes: 2, writtenBytes: 2 },
    log: { lines: 1, bytes: 4, storedBytes: expect.any(Number) },
  });
});

test('takes the processor time from Nix where Nix has measured it', async () => {
  const entry = begin();
  entry.ended({ result: 'Built', succeeded: true, error: null, cpuMicros: 2_500_000 });
  await history.close();
  expect((await history.get(1))?.usage).toEqual({
    ...{ source: 'cgroup', cpuSeconds: 2.5, peakMemoryBytes: null, readBytes: null, writtenBytes: null },
  });
});

test('notes a build that was repeated because its outputs were lost', async () => {
  const entry = begin();
  entry.leased('g1', 'image-1');
  entry.ended({ result: 'Built', succeeded: true, error: null, cpuMicros: null });
  entry.leased('g2', 'image-1');
  await history.close();
  expect(await history.get(1)).toMatchObject({
    guest: 'g2',
    replays: [{ guest: 'g1', reason: 'lost before the client had the outputs' }],
  });
});

test('keeps no fetch of a build that failed', async () => {
  const entry = begin();
  entry.ended({ result: 'MiscFailure', succeeded: false, error: 'no', cpuMicros: null });
  entry.left(128);
  await history.close();
  expect(await history.get(1)).toMatchObject({ relayedBytes: 0, times: { fetched: null }, error: 'no' });
});
