import { mkdtemp, readFile, rm } from 'node:fs/promises';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import type { Drover } from '../support/drover.js';
import { expectNoRemains, remainsOfGuests } from '../support/guests.js';
import { asWatched, watchedBy } from '../support/inotify.js';
import { nixHost, succeeded } from '../support/nix.js';
import { packages, removeBuilt, runChecks } from '../support/packages.js';
import { describeE2e } from '../support/requirements.js';
import { DoubledMac } from '../support/vz.js';
import { waitUntil } from '../support/wait.js';

/** The whole graph takes about 70 s on two cores that have nothing else to do. */
const DEADLINE_MS = 600_000;
/** A guest has 10 s to set its clock. */
const SET_CLOCK_DEADLINE_MS = 30_000;

/** Long enough to be killed in the middle of. */
const SCRIPT = 'echo "it has begun"; sleep 5; read -r line < $input; echo "$line" > $out';

/** The driver and vz-helper as they ship; below them the double of Apple's framework, whose guests are namespaces. */
describeE2e('builds on a Mac that is doubled', ['modern-nix', 'demo-packages', 'sshd'], () => {
  let mac: DoubledMac;
  beforeAll(async () => {
    mac = await DoubledMac.create();
  }, 180_000);
  afterAll(async () => {
    await mac[Symbol.asyncDispose]();
  });

  async function expectNothingLeft(drover: Drover): Promise<void> {
    await expectNoRemains(drover.stateDir);
    expect(await mac.remains()).toEqual([]);
  }

  const KILLS = {
    'vz-helper': async (guest: string) => await mac.helper(guest),
    'virtual machine': async (guest: string) => await mac.machine(guest),
  } as const;

  test(
    'a graph of real packages, with a kill of a vz-helper and of a virtual machine in the middle',
    async () => {
      await using drover = await mac.startDrover({
        config: { pool: { maxGuests: 2, jobsPerGuest: 2, idleTimeout: '1s' } },
      });
      await using host = await nixHost({ drover });
      const expression = await packages(host, 'all');
      expect(await drover.status()).toMatchObject({ guests: [], driver: 'vz' });

      const client = host.start('nix-build', ['--no-out-link', ...expression]);
      for (const victim of Object.values(KILLS)) {
        const since = drover.events.position;
        const { guest } = await drover.events.waitFor('build-started', () => true, {
          since,
          deadlineMs: DEADLINE_MS,
        });
        process.kill(await victim(guest), 'SIGKILL');
        await drover.events.waitFor(
          'guest-state',
          (event) => event.guest === guest && event.to === 'failed',
          {
            since,
          },
        );
      }

      const { stdout } = succeeded(await client.ended);
      const { totals } = await drover.status();
      expect(totals).toMatchObject({ failedBuilds: 0, copiedPaths: 0, copiedBytes: 0 });
      expect(totals.replayedBuilds).toBeGreaterThanOrEqual(2);
      expect(totals.builds).toBeGreaterThan(12);
      expect(await runChecks(stdout.trim())).toBeGreaterThanOrEqual(20);

      await waitUntil('the last guest to go', async () => (await drover.status()).guests.length === 0);
      await expectNothingLeft(drover);
      await removeBuilt(host, expression);
    },
    DEADLINE_MS + 60_000,
  );

  test.each([
    { what: 'vz-helper', door: 'ssh', version: 'modern', how: /its vz-helper: it was killed by SIGKILL/ },
    { what: 'vz-helper', door: 'socket', version: 'debian', how: /its vz-helper: it was killed by SIGKILL/ },
    { what: 'virtual machine', door: 'ssh', version: 'debian', how: /stopped unexpectedly/ },
    { what: 'virtual machine', door: 'socket', version: 'modern', how: /stopped unexpectedly/ },
  ] as const)(
    'kill -9 of the $what in the middle of a build ($version Nix, $door door): its output arrives',
    async ({ what, door, version, how }) => {
      await using drover = await mac.startDrover();
      await using host = await nixHost({ version, door, drover });
      const client = host.startBuild(
        host.derivation('survives', SCRIPT, `input = builtins.toFile "in-${host.id}" "an input\\n";`),
      );
      await client.waitForOutput('it has begun');
      process.kill(await KILLS[what]('g1'), 'SIGKILL');

      const { stdout, stderr } = succeeded(await client.ended);
      expect(await readFile(stdout.trim(), 'utf8')).toBe('an input\n');
      expect(stderr).toMatch(/The guest g1 was lost: /);
      expect(stderr).toMatch(how);
      expect(stderr).toContain('building again in another guest (1 of 2)');
      await drover.stop();
      await expectNothingLeft(drover);
    },
  );

  test('after the Mac has slept, a guest is given work again when it has set its clock', async () => {
    await using drover = await mac.startDrover();
    await using host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('before', 'echo 1 > $out')));
    // On macOS, /etc is a link too, and a watch of the root is one of the whole disk.
    const watched = await watchedBy(drover.pid);
    expect(watched).toContain(await asWatched(drover.pid, '/private/etc/drover'));
    expect(watched).not.toContain(await asWatched(drover.pid, '/'));
    const helper = await mac.helper('g1');
    process.kill(helper, 'SIGUSR1');
    await waitUntil('the sleep of g1', async () => (await drover.status()).guests[0]?.asleep);
    process.kill(helper, 'SIGUSR2');
    await waitUntil('g1 to be awake', async () => !(await drover.status()).guests[0]?.asleep);
    succeeded(await host.build(host.derivation('after', 'echo 2 > $out')));
    expect((await drover.status()).totals).toMatchObject({ builds: 2, guestsBooted: 1 });
  });

  test(
    'a guest that does not answer after the Mac has slept is retired, and builds go to another one',
    async () => {
      await using drover = await mac.startDrover();
      await using host = await nixHost({ drover });
      succeeded(await host.build(host.derivation('before', 'echo 1 > $out')));
      const helper = await mac.helper('g1');
      await mac.freeze('g1');
      process.kill(helper, 'SIGUSR1');
      process.kill(helper, 'SIGUSR2');
      // By its clock, or by ssh's keepalives, whichever comes first.
      await waitUntil(
        'the end of g1',
        async () => (await drover.status()).guests.every(({ id }) => id !== 'g1'),
        SET_CLOCK_DEADLINE_MS,
      );
      succeeded(await host.build(host.derivation('after', 'echo 2 > $out')));
      expect((await drover.status()).totals).toMatchObject({ builds: 2, guestsBooted: 2 });
    },
    2 * SET_CLOCK_DEADLINE_MS,
  );

  test('the supervisor killed in the middle of a build: nothing is left but a directory, which the next start removes', async () => {
    const stateDir = await mkdtemp('/tmp/st-');
    try {
      {
        await using drover = await mac.startDrover({ stateDir });
        await using host = await nixHost({ drover });
        const client = host.startBuild(host.derivation('endless', 'echo "it has begun"; sleep 86399'));
        await client.waitForOutput('it has begun');
        drover.signal('SIGKILL');
        await drover.exited;
        expect((await client.ended).exitCode).not.toBe(0);
        await waitUntil('the end of everything but directories', async () =>
          [...(await remainsOfGuests(stateDir)), ...(await mac.remains())].every((what) =>
            what.startsWith('directory'),
          ),
        );
      }
      await using drover = await mac.startDrover({ stateDir });
      expect(await drover.waitForLog('cleaned up after an earlier run')).toMatchObject({
        found: 'removed the directory of guest g1',
      });
      await expectNothingLeft(drover);
    } finally {
      await rm(stateDir, { recursive: true, force: true });
    }
  });
});
