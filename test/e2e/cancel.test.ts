import { expect, test } from '@jest/globals';

import { startDrover, type Drover } from '../support/drover.js';
import { guestInit, guestProcesses } from '../support/guests.js';
import { NIX_DIRS, nixHost, succeeded, type NixHost, type NixProcess } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

/** The test does not wait for its end. */
const ENDLESS = 'echo "it has begun"; sleep 86399';

const CASES = [
  { how: 'interrupted with Ctrl-C', version: 'debian', door: 'socket', end: ctrlC },
  { how: 'interrupted with Ctrl-C', version: 'modern', door: 'ssh', end: ctrlC },
  { how: 'killed', version: 'debian', door: 'ssh', end: kill },
  { how: 'killed', version: 'modern', door: 'socket', end: kill },
] as const;

function ctrlC(client: NixProcess): void {
  client.signalGroup('SIGINT');
}

function kill(client: NixProcess): void {
  process.kill(client.pid, 'SIGKILL');
}

async function isBuilding(init: number): Promise<boolean> {
  return (await guestProcesses(init)).some(({ command }) => command.includes('sleep 86399'));
}

async function expectIdleAndUsable(drover: Drover, host: NixHost): Promise<void> {
  const { leases, waiting, builds, guests } = await drover.status();
  expect({ leases, waiting, builds, guests: guests.length }).toEqual({
    leases: 0,
    waiting: 0,
    builds: [],
    guests: 1,
  });
  succeeded(await host.build(host.derivation('next', 'echo next > $out')));
}

describeE2e('a client that goes in the middle of a build', ['modern-nix'], () => {
  test.each(CASES)(
    '$how: the build ends, and its slot is free again ($version Nix, $door door)',
    async ({ version, door, end }) => {
      await using drover = await startDrover({
        nix: NIX_DIRS[version],
        config: { pool: { maxGuests: 1, jobsPerGuest: 1 } },
      });
      await using host = await nixHost({ version, door, drover });
      const client = host.startBuild(host.derivation('endless', ENDLESS));
      await client.waitForOutput('it has begun');
      const init = await guestInit(drover.stateDir, await drover.onlyGuest());
      expect(await isBuilding(init)).toBe(true);

      end(client);

      await client.ended;
      expect(await drover.events.waitFor('build-finished')).toMatchObject({ result: 'Cancelled' });
      await waitUntil('the return of the lease', async () => (await drover.status()).leases === 0);
      await waitUntil('the end of the build', async () => !(await isBuilding(init)));
      await expectIdleAndUsable(drover, host);
    },
  );

  test('interrupted while it waits for a slot: nothing is built for it', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 1, jobsPerGuest: 1 } } });
    await using host = await nixHost({ drover });
    const first = host.startBuild(host.derivation('endless', ENDLESS));
    await first.waitForOutput('it has begun');
    const second = host.startBuild(host.derivation('waits', ENDLESS));
    await waitUntil('a session that waits', async () => (await drover.status()).waiting === 1);
    ctrlC(second);
    await second.ended;
    await drover.events.waitFor('lease-refused');
    expect((await drover.status()).waiting).toBe(0);
    ctrlC(first);
    await first.ended;
    const finished = await drover.events.waitFor('build-finished', ({ guest }) => guest !== null);
    expect(finished.derivation).toContain('endless');
    await drover.caughtUp();
    expect(drover.events.of('build-started').filter(({ build }) => build !== finished.build)).toEqual([]);
  });
});
