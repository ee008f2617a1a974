import { access } from 'node:fs/promises';

import { expect, test } from '@jest/globals';

import { startDrover } from '../support/drover.js';
import { guestInit } from '../support/guests.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

describeE2e('a guest that has just booted', [], () => {
  // Connections that come at the same time would each make it, and some of them fail.
  test('has its database', async () => {
    await using drover = await startDrover({ config: { pool: { warmGuests: 1 } } });
    const guest = await waitUntil('the warm guest', async () =>
      (await drover.status()).guests.find(({ state }) => state === 'ready'),
    );
    await access(`/proc/${await guestInit(drover.stateDir, guest.id)}/root/nix/var/nix/db/db.sqlite`);
  });

  test('is ready for many builds at once', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 1, jobsPerGuest: 24 } } });
    await using host = await nixHost({ drover });
    const leaves = Array.from({ length: 24 }, (_, number) =>
      host.derivation(`leaf-${number}`, 'echo done > $out'),
    );
    const root = host.derivation('root', 'echo done > $out', `leaves = [ ${leaves.join(' ')} ];`);
    succeeded(await host.build(root));
    expect((await drover.status()).totals).toMatchObject({ builds: 25, replayedBuilds: 0, guestsBooted: 1 });
  });
});
