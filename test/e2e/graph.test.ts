import { expect, test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import type { EventLog } from '../support/event-log.js';
import { expectNoRemains } from '../support/guests.js';
import { nixHost, succeeded } from '../support/nix.js';
import { packages, removeBuilt, runChecks } from '../support/packages.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

/** The whole graph takes about 70 s on two cores that have nothing else to do. */
const DEADLINE_MS = 1_200_000;

type StateEvent = ReturnType<typeof EventLog.prototype.of<'guest-state'>>[number];

function guestsAfter(events: readonly StateEvent[]): number {
  const alive = new Set<string>();
  for (const { guest, to } of events) {
    if (to === 'stopped' || to === 'failed') alive.delete(guest);
    else alive.add(guest);
  }
  return alive.size;
}

function mostGuests(log: EventLog): number {
  const events = log.of('guest-state');
  return Math.max(0, ...events.map((_, index) => guestsAfter(events.slice(0, index + 1))));
}

describeE2e('a graph of real packages', ['demo-packages'], () => {
  test.each([
    { attribute: 'smaller', builds: 7, checks: 7 },
    { attribute: 'all', builds: 12, checks: 20 },
  ] as const)(
    '$attribute: from no guest to two and back to none, with nothing copied',
    async ({ attribute, builds, checks }) => {
      await using drover = await startDrover({
        config: { pool: { maxGuests: 2, jobsPerGuest: 2, idleTimeout: '1s' } },
      });
      await using host = await nixHost({ drover });
      const expression = await packages(host, attribute);
      expect((await drover.status()).guests).toEqual([]);

      const { stdout } = succeeded(
        await host.run('nix-build', ['--no-out-link', ...expression], { deadlineMs: DEADLINE_MS }),
      );

      const { totals } = await drover.status();
      expect(totals).toMatchObject({ failedBuilds: 0, replayedBuilds: 0, copiedPaths: 0, copiedBytes: 0 });
      expect(totals.builds).toBeGreaterThan(builds);
      expect(await runChecks(stdout.trim())).toBeGreaterThanOrEqual(checks);
      await drover.caughtUp();
      expect(mostGuests(drover.events)).toBe(2);

      await waitUntil('the last guest to go', () => guestsAfter(drover.events.of('guest-state')) === 0);
      expect(new Set(drover.events.of('guest-retired').map(({ reason }) => reason))).toEqual(
        new Set(['idle']),
      );
      expect((await drover.status()).guests).toEqual([]);
      await expectNoRemains(drover.stateDir);
      await removeBuilt(host, expression);
    },
    DEADLINE_MS + 60_000,
  );
});
