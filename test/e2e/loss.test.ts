import { chmod, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { startDrover, type Drover } from '../support/drover.js';
import { expectNoRemains, guestInit, guestProcesses, HELD, heldProcess, release } from '../support/guests.js';
import { NIX_DIRS, nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

const SCRIPT = `echo "it has begun"; ${HELD}; read -r line < $input; echo "$line" > $out`;
/** The end of its connections may be seen long before that of the guest. */
const KILLED = /g\d+ (was lost: it was killed by SIGKILL|ended); building again/;

async function killGuest(drover: Drover, guest: string): Promise<void> {
  process.kill(await guestInit(drover.stateDir, guest), 'SIGKILL');
}

/** Kills the process that serves the connection of a build: that which the build descends from, not the listener. */
async function killDaemonOfBuild(drover: Drover, guest: string): Promise<void> {
  const init = await guestInit(drover.stateDir, guest);
  const { pid } = await heldProcess(drover.stateDir, guest);
  const inside = await guestProcesses(init);
  const parentOf = (child: number): number => inside.find((process) => process.pid === child)?.parent ?? 0;
  let serving = pid;
  while (serving !== 0 && parentOf(parentOf(serving)) !== init) serving = parentOf(serving);
  if (serving === 0) throw new Error(`no process serves the build: ${JSON.stringify(inside)}`);
  process.kill(serving, 'SIGKILL');
}

/**
 * Has a client get a megabyte of what Drover sends it, and the rest not before the gate opens.
 * @returns opens it
 */
async function gate(host: NixHost): Promise<() => Promise<unknown>> {
  const file = await host.writeFile(
    'gate',
    `#!/bin/sh
"$@" | {
  stdbuf -o0 head -c 1000000
  until [ -e "$0.open" ] || ! [ -e "$0" ]; do sleep 0.1; done
  cat
}
`,
  );
  await chmod(file, 0o755);
  const settings = await readFile(join(host.dir, 'nix.conf'), 'utf8');
  await host.writeFile('nix.conf', settings.replace('remote-program=', `remote-program=${file}%20`));
  return async () => await host.writeFile('gate.open', '');
}

const CASES = [
  {
    what: 'guest',
    kill: killGuest,
    version: 'debian',
    door: 'socket',
    said: KILLED,
  },
  {
    what: 'guest',
    kill: killGuest,
    version: 'modern',
    door: 'ssh',
    said: KILLED,
  },
  {
    what: "guest's nix-daemon",
    kill: killDaemonOfBuild,
    version: 'debian',
    door: 'ssh',
    said: /nix-daemon of the guest g\d+ ended; building again/,
  },
  {
    what: "guest's nix-daemon",
    kill: killDaemonOfBuild,
    version: 'modern',
    door: 'socket',
    said: /nix-daemon of the guest g\d+ ended; building again/,
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
      const { guest: lost } = await drover.events.waitFor('build-started');
      await kill(drover, lost);
      const { guest } = await drover.events.waitFor('build-started', (event) => event.guest !== lost);
      await release(drover.stateDir, guest);

      const { stdout, stderr } = succeeded(await client.ended);
      expect(await readFile(stdout.trim(), 'utf8')).toBe('an input\n');
      expect(stderr).toMatch(said);
      expect(stderr).toContain('(1 of 2)');
      expect((await drover.status()).totals).toMatchObject({ builds: 1, failedBuilds: 0, replayedBuilds: 1 });
      await waitUntil('the end of the lost guest', async () =>
        (await drover.status()).guests.every(({ id }) => id !== lost),
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
      const open = await gate(host);
      const client = host.startBuild(
        host.derivation('large', 'seq 1 3000000 > $out'), // 23 MB, of which no two lines are alike
      );
      await client.waitForOutput('copying path');
      await killGuest(drover, (await drover.events.waitFor('build-started')).guest);
      await open();

      const { stdout } = succeeded(await client.ended);
      const { stdout: lines } = await execa('wc', ['-l', stdout.trim()]);
      expect(lines).toMatch(/^3000000 /);
      const { stdout: last } = await execa('tail', ['-n', '1', stdout.trim()]);
      expect(last).toBe('3000000');
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
    const lost: string[] = [];
    while (lost.length < 3) {
      const { guest } = await drover.events.waitFor('build-started', (event) => !lost.includes(event.guest));
      await killGuest(drover, guest);
      lost.push(guest);
    }
    const { exitCode, stderr } = await client.ended;
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(new RegExp(`drover: .*guest ${lost[0]} .*; building again .*\\(1 of 2\\)`));
    expect(stderr).toMatch(new RegExp(`drover: .*guest ${lost[1]} .*; building again .*\\(2 of 2\\)`));
    expect(stderr).toMatch(new RegExp(`error: drover: .*guest ${lost[2]} `));
    expect(await drover.events.waitFor('build-finished')).toMatchObject({ result: 'Lost' });
    await expectNoRemains(drover.stateDir);
  });
});
