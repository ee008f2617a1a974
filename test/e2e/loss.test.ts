import { readFile } from 'node:fs/promises';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { startDrover, type Drover } from '../support/drover.js';
import { expectNoRemains, guestInit, guestProcesses } from '../support/guests.js';
import { NIX_DIRS, nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

/** Long enough to be killed in the middle of. */
const SCRIPT = 'echo "it has begun"; sleep 2; read -r line < $input; echo "$line" > $out';

async function killGuest(drover: Drover, guest: string): Promise<void> {
  process.kill(await guestInit(drover.stateDir, guest), 'SIGKILL');
}

/** Kills the process that serves the connection of a build, not the one that listens. */
async function killDaemonOfBuild(drover: Drover, guest: string): Promise<void> {
  const init = await guestInit(drover.stateDir, guest);
  const inside = await guestProcesses(init);
  const listener = inside.find(({ parent, command }) => parent === init && command.startsWith('nix-daemon'));
  // The connection that was opened last is that of the build.
  const serving = inside.filter(
    ({ parent, command }) => parent === listener?.pid && command.includes('nix-daemon'),
  );
  const pid = serving.at(-1)?.pid;
  if (pid === undefined) throw new Error(`no process serves a connection: ${JSON.stringify(inside)}`);
  process.kill(pid, 'SIGKILL');
}

const CASES = [
  {
    what: 'guest',
    kill: killGuest,
    version: 'debian',
    door: 'socket',
    said: /g1 was lost: it was killed by SIGKILL; building again/,
  },
  {
    what: 'guest',
    kill: killGuest,
    version: 'modern',
    door: 'ssh',
    said: /g1 was lost: it was killed by SIGKILL; building again/,
  },
  {
    what: "guest's nix-daemon",
    kill: killDaemonOfBuild,
    version: 'debian',
    door: 'ssh',
    said: /nix-daemon of the guest g1 ended; building again/,
  },
  {
    what: "guest's nix-daemon",
    kill: killDaemonOfBuild,
    version: 'modern',
    door: 'socket',
    said: /nix-daemon of the guest g1 ended; building again/,
  },
] as const;

describeE2e('a guest that is lost in the middle of a build', ['modern-nix'], () => {
  test.each(CASES)(
    'is replaced when the $what is killed ($version Nix, $door door)',
    async ({ kill, version, door, said }) => {
      await using drover = await startDrover({ nix: NIX_DIRS[version] });
      await using host = await nixHost({ version, door, drover });
      const client = host.startBuild(
        host.derivation('survives', SCRIPT, `input = builtins.toFile "in-${host.id}" "an input\\n";`),
      );
      await client.waitForOutput('it has begun');
      await kill(drover, 'g1');

      const { stdout, stderr } = succeeded(await client.ended);
      expect(await readFile(stdout.trim(), 'utf8')).toBe('an input\n');
      expect(stderr).toMatch(said);
      expect(stderr).toContain('(1 of 2)');
      expect((await drover.status()).totals).toMatchObject({ builds: 1, failedBuilds: 0, replayedBuilds: 1 });
      await waitUntil('the end of the lost guest', async () =>
        (await drover.status()).guests.every(({ id }) => id !== 'g1'),
      );
    },
  );

  test.each([
    { version: 'debian', door: 'socket' },
    { version: 'modern', door: 'ssh' },
  ] as const)(
    'while its output is copied ($version Nix, $door door): it is built again, and all of it arrives',
    async ({ version, door }) => {
      await using drover = await startDrover({ nix: NIX_DIRS[version] });
      await using host = await nixHost({ version, door, drover });
      const client = host.startBuild(
        host.derivation('large', 'seq 1 20000000 > $out'), // 169 MB, of which no two lines are alike
      );
      await client.waitForOutput('copying path');
      client.signalGroup('SIGSTOP'); // what is on its way stays there
      await killGuest(drover, 'g1');
      client.signalGroup('SIGCONT');

      const { stdout } = succeeded(await client.ended);
      const { stdout: lines } = await execa('wc', ['-l', stdout.trim()]);
      expect(lines).toMatch(/^20000000 /);
      const { stdout: last } = await execa('tail', ['-n', '1', stdout.trim()]);
      expect(last).toBe('20000000');
      expect((await drover.status()).totals).toMatchObject({ builds: 1, failedBuilds: 0, replayedBuilds: 1 });
      succeeded(await host.run('nix-store', ['--verify-path', stdout.trim()]));
    },
  );

  test('three times: the build fails, and says why', async () => {
    await using drover = await startDrover({ config: { pool: { idleTimeout: '0s' } } });
    await using host = await nixHost({ drover });
    const client = host.startBuild(
      host.derivation('lost', SCRIPT, `input = builtins.toFile "in-${host.id}" "an input\\n";`),
    );
    for (const guest of ['g1', 'g2', 'g3']) {
      await drover.events.waitFor('build-started', (event) => event.guest === guest);
      await killGuest(drover, guest);
    }
    const { exitCode, stderr } = await client.ended;
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/drover: The guest g1 was lost: .*; building again in another guest \(1 of 2\)/);
    expect(stderr).toMatch(/drover: The guest g2 was lost: .*; building again in another guest \(2 of 2\)/);
    expect(stderr).toMatch(/error: drover: The guest g3 was lost/);
    expect(await drover.events.waitFor('build-finished')).toMatchObject({ result: 'Lost' });
    await expectNoRemains(drover.stateDir);
  });
});
