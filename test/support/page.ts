import type { BuildReport, Status } from '../../src/control/api.js';

/** A name that a client could choose to attack the page, a terminal, and its reader. */
export const HOSTILE = `<script>alert(1)</script>"'\`&\u001b]0;evil\u0007\u202etxt`;

/** A status for pages: one guest, and these builds. */
export function statusWith(changes: Partial<Status> = {}): Status {
  return {
    ...{ version: '1.2.3', pid: 1, state: 'running', startedAt: '2026-01-01T00:00:00Z', driver: 'namespace' },
    ...{ warnings: [], nixVersion: '2.8.0', protocol: '1.33', systems: [], features: [], maxJobs: 8 },
    ...{ doors: { socket: '', ssh: null }, metrics: null, page: null, rollout: null, restartKeys: [] },
    ...{
      reloadError: null,
      guests: [],
      programs: [],
      maxGuests: 2,
      jobsPerGuest: 4,
      waiting: 0,
      queues: [],
      leases: 0,
    },
    ...{ failedBoots: null, sessions: 0, builds: [] },
    totals: {
      ...{ guestsBooted: 0, builds: 0, failedBuilds: 0, replayedBuilds: 0 },
      ...{ sharedPaths: 0, sharedBytes: 0, copiedPaths: 0, copiedBytes: 0 },
    },
    ...changes,
  };
}

/** A build of the history that was asked for at `asked` and took ten seconds. */
export function reportOf(asked: number, changes: Partial<BuildReport> = {}): BuildReport {
  return {
    ...{
      id: 'b1',
      derivation: `/nix/store/${'0'.repeat(32)}-hello.drv`,
      name: 'hello',
      system: 'x86_64-linux',
    },
    client: { door: 'socket', domain: 'uid:0', name: 'uid 0' },
    ...{ guest: 'g1', generation: '7978', result: 'Built', succeeded: true, error: null, replays: [] },
    times: {
      ...{ asked, leased: asked + 100, provisioned: asked + 200, started: asked + 300 },
      ...{ ended: asked + 10_000, fetched: asked + 10_500 },
    },
    inputs: { shared: 1, sharedBytes: 1, copied: 0, copiedBytes: 0 },
    ...{ relayedBytes: 0, usage: null, log: { lines: 0, bytes: 0, storedBytes: 0 } },
    ...{ phase: null, waiting: null, expectedMs: null },
    ...changes,
  };
}
