import { expect, test } from '@jest/globals';

import { startDrover, type Drover } from '../support/drover.js';
import { expectNoRemains, freezeGuest, guestInit, HELD, release } from '../support/guests.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

/** A silence is noticed after 30 s, and the guest has 20 s to answer. */
const HANG_DEADLINE_MS = 200_000;

/** Freezes the guest that there is. @returns its id */
async function freeze(drover: Drover): Promise<string> {
  const guest = await drover.onlyGuest();
  await freezeGuest(await guestInit(drover.stateDir, guest));
  return guest;
}

describeE2e('a guest that hangs', [], () => {
  test('loses its builds, which are built elsewhere, and gets no others', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 2 } } });
    await using host = await nixHost({ drover });
    const running = host.startBuild(host.derivation('running', `echo "it has begun"; ${HELD}; echo > $out`));
    await running.waitForOutput('it has begun');
    const frozen = await freeze(drover);
    const others = ['a', 'b', 'c'].map((name) => host.startBuild(host.derivation(name, 'echo > $out')));

    const lost = await drover.events.waitFor(
      'guest-state',
      ({ guest, to }) => guest === frozen && to === 'failed',
      {
        deadlineMs: HANG_DEADLINE_MS,
      },
    );
    expect(lost.reason).toMatch(/nix-daemon has not answered for 20 s/);
    const again = await drover.events.waitFor(
      'build-started',
      ({ derivation, guest }) => derivation.endsWith('-running.drv') && guest !== frozen,
    );
    await release(drover.stateDir, again.guest);
    for (const client of [running, ...others]) succeeded(await client.ended);
    expect(running.stderr).toMatch(/guest g\d+ was lost: its nix-daemon has not answered.*building again/);
    expect((await drover.status()).guests.map(({ id }) => id)).not.toContain(frozen);
    await drover.stop();
    await expectNoRemains(drover.stateDir);
  });

  test('while it is idle gets no build, although it was needed at once', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 1 } } });
    await using host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('first', 'echo > $out')));
    const frozen = await freeze(drover);
    succeeded(await host.build(host.derivation('second', 'echo > $out')));
    expect(await drover.onlyGuest()).not.toBe(frozen);
  });
});
