import { copyFile, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { MAIN, type Drover } from '../support/drover.js';
import { expectNoRemains, HELD, remainsOfGuests } from '../support/guests.js';
import { asWatched, watchedBy } from '../support/inotify.js';
import { NIX_DIRS, nixHost, succeeded, type NixHost } from '../support/nix.js';
import { packages, removeBuilt, runChecks } from '../support/packages.js';
import { describeE2e } from '../support/requirements.js';
import { Session } from '../support/session.js';
import { endByIdleness, lossOf, onlyGuest } from '../support/vms.js';
import { DoubledMac } from '../support/vz.js';
import { waitUntil } from '../support/wait.js';

/** The whole graph takes about 70 s on two cores that have nothing else to do. */
const DEADLINE_MS = 1_200_000;
/** A guest has 10 s to set its clock; a busy machine needs longer to end it. */
const SET_CLOCK_DEADLINE_MS = 120_000;

const FLAKES = ['--extra-experimental-features', 'nix-command flakes'];

const SCRIPT = `echo "it has begun"; ${HELD}; read -r line < $input; echo "$line" > $out`;

/** The driver and vz-helper as they ship; below them the double of Apple's framework, whose guests are namespaces. */
describeE2e('builds on a Mac that is doubled', ['modern-nix', 'demo-packages', 'sshd'], () => {
  let mac: DoubledMac;
  beforeAll(async () => {
    mac = await DoubledMac.create();
  }, 600_000);
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
        config: { pool: { maxGuests: 2, jobsPerGuest: 2, idleTimeout: '30m' } },
      });
      await using host = await nixHost({ drover });
      const expression = await packages(host, 'all');
      expect(await drover.status()).toMatchObject({ guests: [], driver: 'vz' });

      const client = host.start('nix-build', ['--no-out-link', ...expression]);
      for (const victim of Object.values(KILLS)) {
        const since = drover.events.position;
        const started = async (from: number): Promise<string> =>
          (await drover.events.waitFor('build-started', () => true, { since: from, deadlineMs: DEADLINE_MS }))
            .guest;
        // The build may have ended before the kill: then the next one is waited for.
        while (drover.events.of('build-replayed', since).length === 0) {
          const guest = await started(drover.events.position);
          const killedAt = drover.events.position;
          process.kill(await victim(guest), 'SIGKILL');
          await drover.events.waitFor(
            'guest-state',
            (event) => event.guest === guest && event.to === 'failed',
            { since: killedAt },
          );
          await started(killedAt);
        }
      }

      const { stdout } = succeeded(await client.ended);
      const { totals } = await drover.status();
      expect(totals).toMatchObject({ failedBuilds: 0, copiedPaths: 0, copiedBytes: 0 });
      expect(totals.replayedBuilds).toBeGreaterThanOrEqual(2);
      expect(totals.builds).toBeGreaterThan(12);
      expect(await runChecks(stdout.trim())).toBeGreaterThanOrEqual(20);

      await endByIdleness(drover);
      await expectNothingLeft(drover);
      await removeBuilt(host, expression);
    },
    DEADLINE_MS + 60_000,
  );

  test.each([
    {
      what: 'vz-helper',
      door: 'ssh',
      version: 'modern',
      how: /^its (vz-helper: it was killed by SIGKILL|SSH connection ended)/,
    },
    {
      what: 'vz-helper',
      door: 'socket',
      version: 'debian',
      how: /^its (vz-helper: it was killed by SIGKILL|SSH connection ended)/,
    },
    {
      what: 'virtual machine',
      door: 'ssh',
      version: 'debian',
      how: /stopped unexpectedly|^its SSH connection ended/,
    },
    {
      what: 'virtual machine',
      door: 'socket',
      version: 'modern',
      how: /stopped unexpectedly|^its SSH connection ended/,
    },
  ] as const)(
    'kill -9 of the $what in the middle of a build ($version Nix, $door door): its output arrives',
    async ({ what, door, version, how }) => {
      await using drover = await mac.startDrover();
      await using host = await nixHost({ version, door, drover });
      const client = host.startBuild(
        host.derivation('survives', SCRIPT, `input = builtins.toFile "in-${host.id}" "an input\\n";`),
      );
      await client.waitForOutput('it has begun');
      const { guest: lost } = await drover.events.waitFor('build-started');
      process.kill(await KILLS[what](lost), 'SIGKILL');
      const { guest } = await drover.events.waitFor('build-started', (event) => event.guest !== lost);
      await mac.release(guest);

      const { stdout, stderr } = succeeded(await client.ended);
      expect(await readFile(stdout.trim(), 'utf8')).toBe('an input\n');
      expect(stderr).toMatch(new RegExp(`guest ${lost} (was lost: |ended)`));
      expect(await lossOf(drover, lost)).toMatch(how);
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
    const etc = await asWatched(drover.pid, '/private/etc/drover');
    const watched = await waitUntil('the watch', async () => {
      const all = await watchedBy(drover.pid);
      return all.includes(etc) && all;
    });
    expect(watched).not.toContain(await asWatched(drover.pid, '/'));
    const guest = await onlyGuest(drover);
    const helper = await mac.helper(guest);
    const isAsleep = async (): Promise<boolean> =>
      (await drover.status()).guests.some(({ id, asleep }) => id === guest && asleep);
    process.kill(helper, 'SIGUSR1');
    await waitUntil('its sleep', isAsleep);
    process.kill(helper, 'SIGUSR2');
    await waitUntil('its waking', async () => !(await isAsleep()));
    succeeded(await host.build(host.derivation('after', 'echo 2 > $out')));
    expect((await drover.status()).totals).toMatchObject({ builds: 2, guestsBooted: 1 });
  });

  test(
    'a guest that does not answer after the Mac has slept is retired, and builds go to another one',
    async () => {
      await using drover = await mac.startDrover();
      await using host = await nixHost({ drover });
      succeeded(await host.build(host.derivation('before', 'echo 1 > $out')));
      const guest = await onlyGuest(drover);
      const helper = await mac.helper(guest);
      await mac.freeze(guest);
      process.kill(helper, 'SIGUSR1');
      // Two signals that wait for a process reach it in either order. The guest may end in its sleep.
      const found = async () => (await drover.status()).guests.find(({ id }) => id === guest);
      await waitUntil('its sleep', async () => (await found())?.asleep !== false);
      if ((await found()) !== undefined) process.kill(helper, 'SIGUSR2');
      // By its clock, or by ssh's keepalives, whichever comes first.
      await waitUntil('its end', async () => (await found()) === undefined, SET_CLOCK_DEADLINE_MS);
      succeeded(await host.build(host.derivation('after', 'echo 2 > $out')));
      expect((await drover.status()).totals).toMatchObject({ builds: 2, guestsBooted: 2 });
    },
    2 * SET_CLOCK_DEADLINE_MS,
  );

  test('the supervisor killed in the middle of a build: nothing is left but a directory, which the next start removes', async () => {
    const stateDir = await mkdtemp('/tmp/st-');
    try {
      let guest = '';
      {
        await using drover = await mac.startDrover({ stateDir });
        await using host = await nixHost({ drover });
        const client = host.startBuild(host.derivation('endless', 'echo "it has begun"; sleep 86399'));
        await client.waitForOutput('it has begun');
        guest = await onlyGuest(drover);
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
        found: `removed the directory of guest ${guest}`,
      });
      await expectNothingLeft(drover);
    } finally {
      await rm(stateDir, { recursive: true, force: true });
    }
  });

  describe('drover vm', () => {
    let drover: Drover;
    let host: NixHost;
    /** A flake, and a directory to share. */
    let dir: string;
    beforeAll(async () => {
      drover = await mac.startDrover();
      // It knows of no builder: drover vm names one.
      host = await nixHost({ version: 'modern', drover, nixConf: { builders: '' } });
      dir = await realpath(await mkdtemp('/tmp/vm-'));
      for (const name of ['manifest.json', 'kernel', 'initrd'])
        await copyFile(join(mac.image, name), join(dir, name));
      await writeFile(
        join(dir, 'flake.nix'),
        `{
          outputs = { self }: {
            source = self.outPath;
            nixosConfigurations.box.config.system.build.droverImage = derivation {
              name = "e2e-${host.id}-image";
              system = "x86_64-linux";
              builder = "/bin/sh";
              args = [ "-c" "mkdir $out; cp $src/manifest.json $src/kernel $src/initrd $out" ];
              src = self;
            };
            nixosConfigurations.other.config.system.build.toplevel = "a system";
          };
        }`,
      );
    });
    afterAll(async () => {
      const { stdout } = await host.run('nix', [...FLAKES, 'eval', '--raw', `path:${dir}#source`]);
      await drover[Symbol.asyncDispose]();
      await host[Symbol.asyncDispose]();
      await host.deletePaths(stdout);
      await rm(dir, { recursive: true });
    });

    const words = (...args: string[]): string[] => [MAIN, '--config', drover.configFile, 'vm', ...args];
    const env = (): NodeJS.ProcessEnv => ({
      PATH: `${NIX_DIRS.modern}:${process.env['PATH'] ?? ''}`,
      HOME: host.dir,
      NIX_CONF_DIR: host.dir,
      NIX_USER_CONF_FILES: '',
      TERM: 'xterm',
    });
    async function vm(args: readonly string[], input = '') {
      const { exitCode, stdout, stderr } = await execa(process.execPath, words(...args), {
        ...{ input, env: env(), extendEnv: false, reject: false },
      });
      return { exitCode, stdout, stderr };
    }

    test('builds a configuration in a guest, and runs it with pipes until it powers off', async () => {
      const options = ['--console', '--memory', '512MiB', '--cores', '1', '--share', dir];
      const { exitCode, stdout, stderr } = await vm(
        [`path:${dir}#box`, ...options],
        'size\ncmdline\nwrite something\npoweroff\n',
      );
      if (exitCode !== 0) throw new Error(stderr);
      expect(stdout).toContain('the console is up\r\n');
      expect(stdout).toContain('1 cpus, 536870912 bytes\r\n');
      expect(stdout).toContain('drover.console=80x24,dumb drover.share quiet\r\n');
      expect(await readFile(join(dir, 'out'), 'utf8')).toBe('something');
      await rm(join(dir, 'out'));
      expect((await drover.status()).totals).toMatchObject({ builds: 1, failedBuilds: 0 });
    });

    test('without a terminal passes no input, and ends with the client', async () => {
      const session = new Session(process.execPath, words(mac.image), env());
      session.type('poweroff\n');
      await session.waitFor(/the console is up/);
      session.child.kill('SIGINT');
      expect(await session.exitCode()).toBe(128 + 2);
      await waitUntil('the end of its machine', async () => {
        const guests = (await drover.status()).guests.map(({ id }) => id);
        return (await readdir(join(drover.stateDir, 'guests'))).every((name) => guests.includes(name));
      });
    });

    test('is a terminal that Ctrl-] leaves, which ends the machine', async () => {
      const command = `stty rows 33 cols 77; exec ${[process.execPath, ...words(mac.image)].join(' ')}`;
      const session = new Session('script', ['-qec', command, '/dev/null'], env());
      await session.waitFor(/Ctrl-\] ends the machine.*the console is up/s);
      session.type('cmdline\r');
      await session.waitFor(/drover\.console=77x33,xterm quiet/);
      session.type('\u001d');
      expect(await session.exitCode()).toBe(0);
      await waitUntil('the end of its machine', async () =>
        (await mac.remains()).every((what) => !what.includes('console-guest')),
      );
    });

    test.each([
      ['fail', /^drover: The machine was lost: drover: nix-daemon has ended: exit-code/m],
      ['crash', /^drover: The machine was lost: its vz-helper: the guest crashed: /m],
    ])('fails when the machine ends otherwise (%s)', async (command, message) => {
      const { exitCode, stderr } = await vm([mac.image, '--console'], `${command}\n`);
      expect({ exitCode, stderr }).toEqual({
        exitCode: 69,
        stderr: expect.stringMatching(message) as unknown,
      });
    });

    test('is refused, with the reason, for what it cannot run', async () => {
      const refused = async (...args: string[]): Promise<string> => {
        const { exitCode, stdout, stderr } = await vm(args);
        expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
        return stderr;
      };
      const notOne =
        /not a NixOS system that imports nixosModules\.guest: it has no system\.build\.droverImage/;
      expect(await refused(`path:${dir}#other`)).toMatch(notOne);
      expect(await refused(`path:${dir}#absent`)).toContain('could not be built');
      expect(await refused('/tmp')).toContain('imports nixosModules.guest: it has no manifest.json');
      expect(await refused(join(dir, 'absent'))).toContain('cannot be found');
      expect(await refused(mac.image, '--memory', '900TiB')).toMatch(/--memory is .*, and this host has /);
      expect(await refused(mac.image, '--share', '/tmp/a,b')).toContain('has a comma or a control character');
      const foreign = JSON.parse(await readFile(join(dir, 'manifest.json'), 'utf8')) as object;
      const file = join(dir, 'foreign.json');
      await writeFile(
        file,
        JSON.stringify({
          ...foreign,
          architecture: 'x86_64',
          systems: ['x86_64-linux'],
          kernel: { path: 'initrd' },
        }),
      );
      const { exitCode, stderr } = await vm([file]);
      expect({ exitCode, stderr }).toEqual({
        exitCode: 69,
        stderr: expect.stringContaining('guests on this Mac are aarch64') as unknown,
      });
    });
  });
});
