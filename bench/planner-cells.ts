/** Measures the pool's planner without guests, under the flags of the supervisor. Prints one cell per line, as JSON. */
import { setMaxListeners } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { pino } from 'pino';

import type { GuestDriver, RunningGuest } from '../src/guest/driver.js';
import type { Lease } from '../src/pool/lease.js';
import { Pool } from '../src/pool/pool.js';
import { CELLS, type Cell, type PlannerSample } from './planner.js';

const JOBS_PER_GUEST = 4;
/** Decisions per batch: the clock of processor time is coarse. */
const BATCH = 64;
const BATCHES = 60;
const FOREVER = new Promise<never>(() => undefined);
const STATS = { scratchTotalBytes: 1, scratchUsedBytes: 0, scratchFreeBytes: 1, uptimeSeconds: 1 };

const CLOCK = { now: () => 0, wallNow: () => 0, after: () => () => undefined };

const DRIVER: GuestDriver = {
  name: 'none',
  manifest: {
    generation: 'bench',
    nixVersion: '2',
    protocol: { major: 1, minor: 33, features: [] },
    systems: ['x86_64-linux'],
  },
  systemsHint: '',
  ownClock: false,
  warnings: [],
  consoleLog: (id) => id,
  boot: ({ id }) => Promise.resolve(guest(id)),
  reap: () => Promise.resolve([]),
};

function guest(id: string): RunningGuest & { readonly id: string } {
  return {
    id,
    exec: ([, verb]) =>
      verb === 'stats'
        ? Promise.resolve({ exitCode: 0, stdout: JSON.stringify(STATS), stderr: '' })
        : FOREVER,
    start: () => FOREVER,
    openDaemon: () => FOREVER,
    stop: () => Promise.resolve(),
    kill: () => Promise.resolve(),
    exited: FOREVER,
  };
}

function heapBytes(): number {
  // Twice: what the first has finalised is collected by the second.
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}

async function measure({ guests, waiters, domains }: Cell): Promise<PlannerSample> {
  const limits = { maxBuilds: 1e9, maxAgeMs: 1e12, idleTimeoutMs: 3e5, bootTimeoutMs: 6e4 };
  const pool = new Pool(
    DRIVER,
    { maxGuests: guests, warmGuests: 0, jobsPerGuest: JOBS_PER_GUEST, isolation: 'client', ...limits },
    CLOCK,
    pino({ level: 'silent' }),
  );
  const held: Lease[] = [];
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  const take = (lease: Lease): void => void held.push(lease);
  const requests = Array.from({ length: domains }, (_, index) => ({ domain: `uid:${index}`, signal }));
  let asked = 0;
  const ask = (): void => {
    const request = requests[asked++ % domains];
    if (request !== undefined) void pool.lease(request).then(take);
  };
  const settled = async (): Promise<void> => {
    for (let turn = 0; turn < 4; turn++) await nextTurn();
  };
  for (let slot = 0; slot < guests * JOBS_PER_GUEST; slot++) ask();
  await settled();
  const before = heapBytes();
  for (let waiter = 0; waiter < waiters; waiter++) ask();
  const bytesPerWaiter = (heapBytes() - before) / waiters;
  const times: number[] = [];
  for (let batch = 0; batch < BATCHES; batch++) {
    const returned = held.splice(0, BATCH);
    const startedAt = process.cpuUsage();
    for (const lease of returned) void lease[Symbol.asyncDispose]();
    const { user, system } = process.cpuUsage(startedAt);
    times.push((user + system) / returned.length);
    // As many arrive as were served.
    returned.forEach(() => {
      ask();
    });
    await settled();
  }
  times.sort((a, b) => a - b);
  return { guests, waiters, domains, micros: times[times.length >> 1] ?? NaN, bytesPerWaiter };
}

for (const cell of CELLS) process.stdout.write(`${JSON.stringify(await measure(cell))}\n`);
process.exit(0);
