import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { readChecks, runCheck } from '../../src/demo/checks.js';
import { REPOSITORY, startDrover } from '../support/drover.js';
import type { EventLog } from '../support/event-log.js';
import { expectNoRemains } from '../support/guests.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { DEMO_CACHE, describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

/** The whole graph takes about 70 s on two cores that have nothing else to do. */
const DEADLINE_MS = 300_000;
const PACKAGES = join(REPOSITORY, 'demo/packages.nix');

/** Removes what was built: its names are not of this test alone, but its paths are. */
async function removeBuilt(host: NixHost, expression: readonly string[]): Promise<void> {
  const derivation = succeeded(await host.run('nix-instantiate', expression)).stdout.trim();
  const { stdout } = succeeded(await host.run('nix-store', ['-q', '--requisites', derivation]));
  const derivations = stdout.split('\n').filter((path) => path.endsWith('.drv'));
  const outputs = succeeded(await host.run('nix-store', ['-q', '--outputs', ...derivations])).stdout.split(
    '\n',
  );
  await host.run('nix-store', ['--delete', ...outputs.filter((path) => path !== ''), ...derivations]);
}

async function runChecks(output: string): Promise<number> {
  const checks = await readChecks(join(REPOSITORY, 'demo/checks.json'));
  const scratch = await mkdtemp('/tmp/checks-');
  let done = 0;
  try {
    for (const check of checks) {
      const path = await realpath(join(output, check.package)).catch(() => undefined);
      if (path === undefined) continue;
      await runCheck(check, path, scratch);
      done += 1;
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return done;
}

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

describeE2e('a graph of real packages', ['demo packages'], () => {
  test.each([
    { attribute: 'smaller', packages: 7, checks: 7 },
    { attribute: 'all', packages: 12, checks: 20 },
  ])(
    '$attribute: from no guest to two and back to none, with nothing copied',
    async ({ attribute, packages, checks }) => {
      await using drover = await startDrover({
        config: { pool: { maxGuests: 2, jobsPerGuest: 2, idleTimeout: '1s' } },
      });
      await using host = await nixHost({ drover });
      const cache = await realpath(DEMO_CACHE);
      const expression = [
        PACKAGES,
        ...['--arg', 'cache', `/. + ${JSON.stringify(cache)}`, '-A', attribute],
        ...['--argstr', 'variant', host.id],
      ];
      expect((await drover.status()).guests).toEqual([]);

      const { stdout } = succeeded(
        await host.run('nix-build', ['--no-out-link', ...expression], { deadlineMs: DEADLINE_MS }),
      );

      const { totals } = await drover.status();
      expect(totals).toMatchObject({ failedBuilds: 0, replayedBuilds: 0, copiedPaths: 0, copiedBytes: 0 });
      expect(totals.builds).toBeGreaterThan(packages);
      expect(await runChecks(stdout.trim())).toBeGreaterThanOrEqual(checks);
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
