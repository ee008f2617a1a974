import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { defaultConfig } from '../../src/config/load.js';
import { REPOSITORY, runDrover } from '../support/drover.js';
import { darwin, load, misunderstood, withoutMac, type DarwinSystem } from '../support/host-modules.js';
import { describeWith } from '../support/requirements.js';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEaKvjLndRKpfZtYZ7Zb+nUULxaRE54cdxfBspGKKkrN me@example';
const EVERYTHING = `{ services.drover = {
  systems = [ "aarch64-linux" ];
  supportedFeatures = [ "big-parallel" "kvm" ];
  mandatoryFeatures = [ "big-parallel" "linux" ];
  speedFactor = 3;
  maxJobs = 7;
  maxGuests = 3; warmGuests = 1; jobsPerGuest = 2; idleTimeout = "1h30m";
  cores = 6; memory = "12GiB"; scratchSize = "50GB";
  rosetta = { enable = false; cache = false; };
  nestedVirtualization = true;
  metrics.listen = "[::1]:9999";
  ssh = { enable = true; listen = "0.0.0.0:2222"; authorizedKeys = [ "${KEY}" ]; identityFile = "/etc/nix/drover"; };
  workingDirectory = "/Volumes/fast/drover";
  door = "ssh";
}; }`;

describe('services.drover on nix-darwin', () => {
  let plain: DarwinSystem;
  let full: DarwinSystem;
  beforeAll(async () => {
    plain = await darwin('{ }');
    full = await darwin(EVERYTHING);
  });

  test('is a daemon that is always there, and knows its configuration by a path that stays', () => {
    expect(plain.failed).toEqual([]);
    expect(plain.warnings).toEqual([]);
    expect(plain.daemons['drover']).toEqual({
      command: expect.stringMatching(
        /^\/nix\/store\/\w+-drover-1\.0\/bin\/drover serve --config \/etc\/drover\/drover\.yaml$/,
      ),
      path: expect.arrayContaining(['/usr/bin', '/run/current-system/sw/bin']),
      serviceConfig: {
        RunAtLoad: true,
        KeepAlive: true,
        ProcessType: 'Interactive',
        ExitTimeOut: 120,
        SoftResourceLimits: { NumberOfFiles: 65_536 },
        StandardErrorPath: '/var/log/drover.stderr.log',
        StandardOutPath: '/var/log/drover.stderr.log',
      },
    });
    expect(plain.packages).toEqual(['drover-1.0']);
    expect(plain.etc).toHaveProperty(['drover/drover.yaml'], null);
    expect(plain.configFile).toMatch(
      /^\/nix\/store\/\S+\/bin\/drover check --config (\/nix\/store\/\S+-drover\.yaml)\ncp \1 \$out\n$/,
    );
  });

  test('is not restarted by any change but of the package', async () => {
    expect(full.daemons).toEqual(plain.daemons);
    const updated = await darwin(
      '{ pkgs, ... }: { services.drover.package = pkgs.package "drover-2.0" { }; }',
    );
    expect(updated.daemons['drover']?.command).toMatch(/-drover-2\.0\/bin\/drover serve/);
  });

  test('says in its file what Drover has by default, but for the size of guests', () => {
    expect(misunderstood(plain.settings)).toEqual([]);
    const defaults = defaultConfig({ env: {}, uid: 0, home: '/root' });
    expect(load(withoutMac(plain.settings))).toEqual({
      ...defaults,
      systems: ['aarch64-linux', 'x86_64-linux'],
      guest: {
        ...defaults.guest,
        memoryBytes: 6 * 1024 ** 3,
        scratchSizeBytes: 100 * 1024 ** 3,
        image: expect.stringMatching(/^\/nix\/store\/\w+-image-with-1-modules\/manifest\.json$/),
      },
      log: { level: 'info', file: '/var/log/drover.log' },
    });
    expect(plain.settings).toMatchObject({
      driver: 'vz',
      guest: { rosetta: { enable: true, cache: true }, nestedVirtualization: false },
    });
  });

  test('says in its file what its options say', () => {
    expect(full.failed).toEqual([]);
    expect(misunderstood(full.settings)).toEqual([]);
    expect(load(withoutMac(full.settings))).toMatchObject({
      stateDir: '/Volumes/fast/drover',
      systems: ['aarch64-linux'],
      features: ['big-parallel', 'kvm', 'linux'],
      pool: { maxGuests: 3, warmGuests: 1, jobsPerGuest: 2, idleTimeoutMs: 5_400_000 },
      guest: { cores: 6, memoryBytes: 12 * 1024 ** 3, scratchSizeBytes: 50 * 1000 ** 3 },
      doors: {
        socket: { path: '/Volumes/fast/drover/doors/nix.sock' },
        ssh: { listen: { host: '0.0.0.0', port: 2222 }, authorizedKeys: [KEY] },
      },
      metrics: { listen: { host: '::1', port: 9999 } },
    });
    expect(full.settings).toMatchObject({
      guest: { rosetta: { enable: false, cache: false }, nestedVirtualization: true },
    });
  });

  test('gives its settings precedence over everything, and follows them', async () => {
    const { failed, settings, machines, maxJobs, etc, activation } = await darwin(`{ services.drover = {
      maxGuests = 5;
      settings = {
        stateDir = "/srv/d";
        pool = { maxGuests = 1; maxAge = "12h"; };
        features = [ "tests" ];
        metrics = null;
        guest = { network = "none"; nixConf.cores = 2; };
        log.file = "/var/log/other.log";
      };
    }; }`);
    expect(failed).toEqual([]);
    expect(misunderstood(settings)).toEqual([]);
    expect(load(withoutMac(settings))).toMatchObject({
      stateDir: '/srv/d',
      features: ['tests'],
      pool: { maxGuests: 1, jobsPerGuest: 4, maxAgeMs: 43_200_000 },
      guest: { network: 'none', nixConf: { cores: '2' } },
      metrics: null,
    });
    expect(maxJobs).toBe(4);
    expect(machines).toBe(
      'ssh-ng://localhost?remote-program=/srv/d/doors/connect aarch64-linux,x86_64-linux - 132 1 tests - -\n',
    );
    expect(etc['newsyslog.d/drover.conf']).toContain(
      '/var/log/other.log root:wheel 640 5 10240 * J /srv/d/drover.pid\n',
    );
    expect(activation).toContain('install -d -m 0700 -o 0 -g 0 /srv/d\n');
  });

  test('has its logs rotated: its own, which it opens anew when signalled, and that of launchd', () => {
    const lines = plain.etc['newsyslog.d/drover.conf']?.split('\n').filter((line) => !line.startsWith('#'));
    expect(lines).toEqual([
      '/var/log/drover.log root:wheel 640 5 10240 * J /var/lib/drover/drover.pid',
      '/var/log/drover.stderr.log root:wheel 640 2 1024 * N',
      '',
    ]);
  });

  test('makes an image with the configuration of guests that users add', async () => {
    const image = (system: DarwinSystem) => (system.settings['guest'] as { readonly image: string }).image;
    const own = await darwin('{ services.drover.guest.config = { networking.hostName = "g"; }; }', {
      more: `extraModules = [ ({ lib, pkgs, ... }: { services.drover.guest.build = lib.mkForce (modules:
        pkgs.package (lib.evalModules { inherit modules; undeclared = true; }).config.networking.hostName { }); }) ];`,
    });
    expect(image(own)).toMatch(/^\/nix\/store\/\w+-g\/manifest\.json$/);
    const given = await darwin('{ services.drover.guest.image = "/images/manifest.json"; }');
    expect(image(given)).toBe('/images/manifest.json');
    // Where the garbage collector has nothing to do with it.
    expect(given.activation).toContain('rm -f /nix/var/nix/gcroots/drover-guest-image\n');
  });

  test('has the options that docs/migrating.md names in place of those of others', async () => {
    const text = await readFile(join(REPOSITORY, 'docs/migrating.md'), 'utf8');
    const columns = text.split('\n').flatMap((line) => /^\|[^|]*\|([^|]*)\|/.exec(line)?.[1] ?? []);
    const named = columns.flatMap((column) =>
      [...column.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name),
    );
    const options = new Set(['services.drover', ...plain.options]);
    expect(named.filter((name) => !options.has(name))).toEqual([]);
    expect(new Set(named).size).toBeGreaterThan(15);
  });

  test('is nothing where it is not enabled', async () => {
    const off = await darwin('({ lib, ... }: { services.drover.enable = lib.mkForce false; })');
    expect(off).toMatchObject({ failed: [], daemons: {}, etc: {}, packages: [], machines: '', checks: '' });
    expect(off.activation).toBe('rm -f /nix/var/nix/gcroots/drover-guest-image\n');
  });
});

describe("how a Mac's Nix is told of Drover", () => {
  test('as `drover machines` does', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'drover-machines-'));
    try {
      for (const configuration of [
        '{ }',
        `{ services.drover = { maxGuests = 7; jobsPerGuest = 3; workingDirectory = "${directory}"; }; }`,
        `{ services.drover = { supportedFeatures = [ ]; systems = [ "aarch64-linux" ]; }; }`,
        `{ services.drover.settings.doors.socket.path = "/run/a b+c/%d/nix.sock"; }`,
      ]) {
        const { settings, machines, distributedBuilds, nixSettings } = await darwin(configuration);
        const file = join(directory, 'drover.yaml');
        await writeFile(file, JSON.stringify(withoutMac(settings)));
        expect(await runDrover(['machines', '--config', file])).toEqual({
          exitCode: 0,
          stdout: machines,
          stderr: '',
        });
        expect(distributedBuilds).toBe(true);
        expect(nixSettings).toEqual({ 'builders-use-substitutes': true });
      }
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  test('through the ssh door, with features and speed as they are set', async () => {
    const { machines, etc } = await darwin(EVERYTHING);
    expect(machines).toBe(
      'ssh-ng://drover aarch64-linux /etc/nix/drover 135 3 kvm,big-parallel,linux big-parallel,linux -\n',
    );
    expect(etc['ssh/ssh_config.d/100-drover.conf']).toBe(
      [
        'Host drover',
        '  HostName 127.0.0.1',
        '  Port 2222',
        '  User drover',
        '  HostKeyAlias drover',
        '  UserKnownHostsFile /Volumes/fast/drover/ssh/known_hosts',
        '  StrictHostKeyChecking yes',
        '  IdentityFile /etc/nix/drover',
        '  IdentitiesOnly yes',
        '',
      ].join('\n'),
    );
  });

  test('by a machines file of its own, where nothing manages Nix', async () => {
    const { machines } = await darwin('{ }');
    const unmanaged = await darwin('{ nix.enable = false; }');
    expect(unmanaged).toMatchObject({ failed: [], machines, distributedBuilds: false, nixSettings: {} });
    expect(unmanaged.etc['nix/machines']).toBe(machines);
  });

  test("by Determinate's module, whose own builder then makes room", async () => {
    const { machines } = await darwin('{ }');
    const more = 'extraModules = [ ./test/nix/hosts/determinate.nix ];';
    const managed = await darwin('{ }', { more });
    expect(managed).toMatchObject({ failed: [], machines: '', distributedBuilds: false });
    expect(managed.determinate).toEqual({
      machines,
      distributedBuilds: true,
      customSettings: { 'builders-use-substitutes': true },
      nativeBuilder: 'disabled',
    });
    const off = await darwin('{ determinateNix.enable = false; }', { more });
    expect(off).toMatchObject({ machines, distributedBuilds: true, determinate: { machines: '' } });
  });

  test('not at all, if so wished', async () => {
    const { machines, distributedBuilds } = await darwin('{ services.drover.door = null; }');
    expect({ machines, distributedBuilds }).toEqual({ machines: '', distributedBuilds: false });
  });
});

describe('what does not fit together is refused, with advice', () => {
  const d = (text: string): string => `{ services.drover = { ${text} }; }`;
  test.each([
    ['more warm guests than guests', d('warmGuests = 3;'), /warmGuests is 3, more than the 2 of.*maxGuests/s],
    ['an ssh door for nobody', d('ssh.enable = true;'), /nobody could use that door.*authorizedKeys/s],
    ['Nix at an ssh door that is not there', d('door = "ssh";'), /there is no ssh door.*ssh\.enable = true/s],
    [
      'a port that nobody knows',
      d(`ssh = { enable = true; authorizedKeys = [ "${KEY}" ]; listen = "[::]:0"; };`),
      /any free port.*Choose one/s,
    ],
    [
      'a system that is not to be had',
      d('systems = [ "aarch64-linux" "armv7l-linux" ];'),
      /cannot build "armv7l-linux"\. Remove it: they build "aarch64-linux", "x86_64-linux"/,
    ],
    [
      'x86_64 without Rosetta',
      d('systems = [ "x86_64-linux" ]; rosetta.enable = false;'),
      /only build with Rosetta.*rosetta\.enable = true/s,
    ],
    [
      'kvm without nested virtualization',
      d('supportedFeatures = [ "kvm" ];'),
      /guests have no \/dev\/kvm.*nestedVirtualization = true/s,
    ],
    ['kvm by settings', d('settings.features = [ "kvm" ];'), /guests have no \/dev\/kvm/],
    [
      'the same systems as linux-builder',
      '{ nix.linux-builder.enable = true; }',
      /would both build "aarch64-linux".*nix\.linux-builder\.enable = false/s,
    ],
  ])('%s', async (_, configuration, message) => {
    expect((await darwin(configuration)).failed).toEqual([expect.stringMatching(message)]);
  });

  test('a Mac with an Intel processor', async () => {
    const { failed } = await darwin('{ }', { more: 'system = "x86_64-darwin";' });
    expect(failed).toEqual([expect.stringMatching(/Apple silicon; this configuration is for x86_64-darwin/)]);
  });

  test('no image, and no package, where the flake is not used', async () => {
    const more = 'hasFlake = false;';
    await expect(darwin('{ }', { more })).rejects.toThrow(
      /there is no pkgs\.drover\. Import the module from Drover's flake, add the flake's\s+overlays\.default/,
    );
    const { failed } = await darwin(
      '{ pkgs, ... }: { services.drover.package = pkgs.package "drover-2" { }; }',
      { more },
    );
    expect(failed).toEqual([expect.stringMatching(/there is no image for guests.*darwinModules\.default/s)]);
  });

  test('linux-builder for other systems is no matter', async () => {
    const others = '{ nix.linux-builder = { enable = true; systems = [ "riscv64-linux" ]; }; }';
    expect((await darwin(others)).failed).toEqual([]);
  });

  test('keys for a door that is closed are only a warning', async () => {
    const { failed, warnings } = await darwin(d(`ssh.authorizedKeys = [ "${KEY}" ];`));
    expect(failed).toEqual([]);
    expect(warnings).toEqual([expect.stringMatching(/no ssh door to use them with.*ssh\.enable = true/s)]);
  });

  test.each([
    [
      'memory = 8192;',
      /`services\.drover\.memory' is not of type `size with its unit, such as "8GiB" or "512MiB"'/,
    ],
    ['scratchSize = "20 gigabytes";', /scratchSize' is not of type `size with its unit/],
    ['idleTimeout = "5 minutes";', /idleTimeout' is not of type `duration, such as "5m"/],
    ['idleTimeout = 300;', /idleTimeout' is not of type/],
    ['maxGuests = 0;', /maxGuests' is not of type `integer between 1 and 1024/],
    ['systems = [ ];', /systems' is not of type `non-empty list/],
    ['systems = [ "aarch64-linux x86_64-linux" ];', /systems\.\*' is not of type `word without spaces/],
    ['supportedFeatures = "kvm";', /supportedFeatures' is not of type `list of/],
    ['ssh.listen = "::1:22";', /ssh\.listen' is not of type `address and port/],
    ['metrics.listen = "9419";', /metrics\.listen' is not of type `null or address and port/],
    ['ssh = { enable = true; authorizedKeys = [ "a\\nb" ]; };', /authorizedKeys\.\*' is not of type/],
    [
      'workingDirectory = "/var/lib/my drover";',
      /workingDirectory' is not of type `absolute path of letters/,
    ],
    ['workingDirectory = "drover";', /workingDirectory' is not of type/],
    ['door = "tcp";', /door' is not of type `null or one of "socket", "ssh"'/],
    ['settings.pool.maxGuests = "3";', /settings\.pool\.maxGuests' is not of type `positive integer/],
    ['maxGuest = 3;', /`services\.drover\.maxGuest' does not exist/],
    ['protocol = "ssh";', /`services\.drover\.protocol' does not exist/],
    ['rosetta = true;', /`services\.drover\.rosetta' is a set of options/],
    ['configFile = "/etc/drover.yaml";', /configFile' is read-only/],
  ])('%s', async (setting, message) => {
    await expect(darwin(d(setting))).rejects.toThrow(message);
  });
});

describe('what is looked at when a Mac activates its system', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'drover-activation-'));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  /** Runs the checks as nix-darwin does, on a Mac of that version. */
  async function check(configuration: string, macOS: string, hasRosetta: boolean) {
    const { checks } = await darwin(configuration);
    const program = (name: string, text: string): Promise<void> =>
      writeFile(join(directory, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    await program('sw_vers', `[ "$*" = -productVersion ] && echo ${macOS}`);
    await program('arch', `[ "$*" = "-x86_64 /usr/bin/true" ] && ${String(hasRosetta)}`);
    return await execa(
      'bash',
      ['--norc', '-c', `set -e -o pipefail\n${checks.replaceAll('/usr/bin/arch', 'arch')}\necho activated`],
      {
        env: { PATH: `${directory}:/usr/bin:/bin` },
        extendEnv: false,
        reject: false,
      },
    );
  }

  test('macOS is recent enough', async () => {
    for (const macOS of ['13.0', '14.7.1', '26.1']) {
      expect(await check('{ }', macOS, true)).toMatchObject({ exitCode: 0, stdout: 'activated', stderr: '' });
    }
    for (const macOS of ['12.7.6', '11.3']) {
      const { exitCode, stdout, stderr } = await check('{ }', macOS, true);
      expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
      expect(stderr).toContain(
        `error: Drover needs macOS 13 or later, and this is ${macOS}, aborting activation`,
      );
      expect(stderr).toContain('services.drover.enable = false;');
    }
  });

  test('Rosetta is installed, if it is to be used', async () => {
    const missing = await check('{ }', '15.1', false);
    expect(missing).toMatchObject({ exitCode: 0, stdout: 'activated' });
    expect(missing.stderr).toContain('softwareupdate --install-rosetta');
    const unused = await check('{ services.drover.rosetta.enable = false; }', '15.1', false);
    expect(unused).toMatchObject({ exitCode: 0, stderr: '' });
  });
});

describeWith('services.drover on nix-darwin, in a modern Nix', ['modern Nix'], () => {
  test('is the same', async () => {
    for (const configuration of ['{ }', EVERYTHING]) {
      expect(await darwin(configuration, { version: 'modern' })).toEqual(await darwin(configuration));
    }
  });
});
