import { expect, test } from '@jest/globals';

import { expectNoRemains } from '../support/guests.js';
import { nixHost, succeeded } from '../support/nix.js';
import { packages, removeBuilt, runChecks } from '../support/packages.js';
import { describeE2e } from '../support/requirements.js';
import { endByIdleness, startVmDrover, VM_DEADLINE_MS } from '../support/vms.js';

/** Compilers that are emulated on a machine that does other things as well, in milliseconds. */
const DEADLINE_MS = 1_800_000;

describeE2e('a graph of real packages in a VM', ['vms', 'demo-packages'], () => {
  test(
    'from no guest to one and back to none, with nothing copied',
    async () => {
      await using drover = await startVmDrover({ pool: { maxGuests: 1, jobsPerGuest: 2 } });
      await using host = await nixHost({ drover, deadlineMs: VM_DEADLINE_MS });
      const expression = await packages(host, 'smaller');
      const { stdout } = succeeded(
        await host.run('nix-build', ['--no-out-link', ...expression], { deadlineMs: DEADLINE_MS }),
      );
      const { totals } = await drover.status();
      expect(totals).toMatchObject({ failedBuilds: 0, replayedBuilds: 0, copiedPaths: 0, guestsBooted: 1 });
      expect(totals.builds).toBeGreaterThan(7);
      expect(await runChecks(stdout.trim())).toBeGreaterThanOrEqual(7);
      await endByIdleness(drover);
      await expectNoRemains(drover.stateDir);
      await removeBuilt(host, expression);
    },
    DEADLINE_MS + VM_DEADLINE_MS,
  );
});
