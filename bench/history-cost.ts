/**
 * Measures what the history costs the supervisor, without guests: builds as the front tells the journal of them, beside
 * the same turns of the event loop without a journal. Prints milliseconds of processor time for a build.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

import { pino } from 'pino';

import { CountingJournal, type BuildJournal } from '../src/front/journal.js';
import { BuildHistory } from '../src/history/history.js';
import { HistoryJournal } from '../src/history/journal.js';
import { systemClock } from '../src/lib/clock.js';
import { medianOf } from './samples.js';

const BUILDS = 500;
const ROUNDS = 6;
const STEP_MS = 2;
const LIMITS = { keepMs: 3e10, maxBuilds: 20_000, maxBytes: 2 ** 31, logs: 'all' } as const;

async function build(journal: BuildJournal): Promise<void> {
  const entry = journal.begin({
    derivation: '/nix/store/glx5ylwjs2n4251w65xnlpddb8h44701-drover-bench-leaf.drv',
    system: 'x86_64-linux',
    client: { door: 'socket', domain: 'uid:0', name: 'root', trusted: true },
  });
  entry.leased('g1', 'abcdef0123456789');
  entry.provisioned({ sharedPaths: 3, sharedBytes: 1e6, copiedPaths: 0, copiedBytes: 0 });
  await nextTurn();
  entry.started();
  await entry.addLog('FIRST 1764531420.123');
  await entry.addLog('LAST 1764531420.125');
  entry.used({ source: 'cgroup', cpuSeconds: 0.1, memoryBytes: 1e6, readBytes: 4096, writtenBytes: 4096 });
  await sleep(STEP_MS);
  entry.ended({ result: 'Built', succeeded: true, error: null, cpuMicros: null });
  await sleep(STEP_MS);
  entry.left(120);
  await sleep(STEP_MS);
}

/** Milliseconds of processor time for a build, the threads that write included. */
async function cost(journal: BuildJournal): Promise<number> {
  const before = process.cpuUsage();
  for (let count = 0; count < BUILDS; count++) await build(journal);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / BUILDS / 1000;
}

const dir = await mkdtemp(join('/tmp', 'drover-history-'));
try {
  const log = pino({ level: 'silent' });
  const history = await BuildHistory.open({ dir, limits: LIMITS, clock: systemClock, log });
  const [kept, counted] = [new HistoryJournal(history, systemClock), new CountingJournal()];
  const differences: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const [on, off] = [await cost(kept), await cost(counted)];
    // The first is before the compiler has seen what is often called.
    if (round > 0) differences.push(on - off);
  }
  await history.close();
  process.stdout.write(`${medianOf(differences) ?? NaN}\n`);
} finally {
  await rm(dir, { recursive: true, force: true });
}
