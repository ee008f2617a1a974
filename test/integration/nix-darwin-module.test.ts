import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { beforeAll, expect, test } from '@jest/globals';

import { defaultConfig } from '../../src/config/load.js';
import { REPOSITORY, runDrover } from '../support/drover.js';
import { darwin, load, type DarwinSystem } from '../support/host-modules.js';
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

/** A plain value as Nix writes it. */
function inNix(value: unknown): string {
  if (!Array.isArray(value)) return JSON.stringify(value);
  return value.length === 0 ? '[ ]' : `[ ${value.map(inNix).join(' ')} ]`;
}

describeWith('services.drover on nix-darwin', ['nix'], () => {
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
      environment: { NODE_OPTIONS: '--max-semi-space-size=1' },
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
    const defaults = defaultConfig({ env: {}, uid: 0, home: '/root' });
    expect(load(plain.settings)).toEqual({
      ...defaults,
      driver: 'vz',
      systems: ['aarch64-linux', 'x86_64-linux'],
      guest: {
        ...defaults.guest,
        memoryBytes: undefined,
        scratchSizeBytes: 50 * 1024 ** 3,
        image: expect.stringMatching(/^\/nix\/store\/\w+-drover-guest-release-1\.0\/manifest\.json$/),
      },
      log: { level: 'info', file: '/var/log/drover.log' },
    });
  });

  test('says in its file what its options say', () => {
    expect(full.failed).toEqual([]);
    expect(load(full.settings)).toMatchObject({
      stateDir: '/Volumes/fast/drover',
      systems: ['aarch64-linux'],
      features: ['big-parallel', 'kvm', 'linux'],
      pool: { maxGuests: 3, warmGuests: 1, jobsPerGuest: 2, idleTimeoutMs: 5_400_000 },
      guest: {
        cores: 6,
        memoryBytes: 12 * 1024 ** 3,
        scratchSizeBytes: 50 * 1000 ** 3,
        rosetta: { enable: false, cache: false },
        nestedVirtualization: true,
      },
      doors: {
        socket: { path: '/Volumes/fast/drover/doors/nix.sock' },
        ssh: { listen: { host: '0.0.0.0', port: 2222 }, clients: [{ name: 'me@example', trusted: false }] },
      },
      metrics: { listen: { host: '::1', port: 9999 } },
    });
  });

  test('offers what NixOS tests ask for where guests have /dev/kvm', async () => {
    const { failed, settings, machines } = await darwin('{ services.drover.nestedVirtualization = true; }');
    expect(failed).toEqual([]);
    expect(load(settings)).toMatchObject({
      features: ['benchmark', 'big-parallel', 'kvm', 'nixos-test'],
      guest: { nestedVirtualization: true },
    });
    expect(machines).toContain(' benchmark,big-parallel,kvm,nixos-test ');
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
    expect(load(settings)).toMatchObject({
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

  test('leaves out of its file what its settings say is null, but for metrics', async () => {
    const { failed, settings, etc } = await darwin(`{ services.drover.settings = {
      log.file = null; guest.memory = null; pool.idleTimeout = null; metrics = null;
    }; }`);
    expect(failed).toEqual([]);
    expect(load(settings)).toMatchObject({
      log: { file: undefined },
      guest: { memoryBytes: undefined },
      pool: { idleTimeoutMs: 300_000 },
      metrics: null,
    });
    expect(etc['newsyslog.d/drover.conf']?.match(/^\/.*/gm)).toEqual([
      '/var/log/drover.stderr.log root:wheel 640 2 1024 * N',
    ]);
  });

  test('has its logs rotated: its own, which it reopens on a signal, and that of launchd', () => {
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
        pkgs.package (lib.evalModules { modules = modules ++ [ { options.networking.hostName = lib.mkOption { type = lib.types.str; }; } ]; }).config.networking.hostName { }); }) ];`,
    });
    expect(image(own)).toMatch(/^\/nix\/store\/\w+-g\/manifest\.json$/);
    const given = await darwin('{ services.drover.guest.image = "/images/manifest.json"; }');
    expect(image(given)).toBe('/images/manifest.json');
    // Where the garbage collector has nothing to do with it.
    expect(given.activation).toContain('rm -f /nix/var/nix/gcroots/drover-guest-image\n');
  });

  test('boots guests from the released image, whose system activation adds to the store', async () => {
    const image = (system: DarwinSystem) => (system.settings['guest'] as { readonly image: string }).image;
    expect(image(plain)).toMatch(/^\/nix\/store\/\w+-drover-guest-release-1\.0\/manifest\.json$/);
    expect(plain.activation).toMatch(
      /\/bin\/sh \S+import-closure\.sh \S+-drover-guest-release-1\.0 \S+closure\n/,
    );

    const built = await darwin('{ services.drover.guest.image = "build"; }');
    expect(image(built)).toMatch(/-image-with-0-modules\/manifest\.json$/);
    expect(built).toMatchObject({ failed: [], warnings: [] });
    expect(built.activation).not.toContain('import-closure');
  });

  test('says that an image has to be built where none is released, and where nixpkgs follows another', async () => {
    const none = '{ lib, ... }: { services.drover.guest.release = lib.mkForce null;';
    const unreleased = await darwin(`(${none} })`);
    expect(unreleased.warnings).toEqual([
      expect.stringMatching(/no released guest image.*#bootstrap.*"build"/s),
    ]);
    expect(unreleased.activation).not.toContain('import-closure');
    expect(await darwin(`(${none} services.drover.guest.image = "build"; })`)).toMatchObject({
      warnings: [],
    });

    const follows = 'services.drover.guest.followsNixpkgs = true;';
    expect(await darwin(`{ ${follows} }`)).toMatchObject({ warnings: [] });
    expect(await darwin(`{ ${follows} services.drover.guest.image = "build"; }`)).toMatchObject({
      warnings: [expect.stringMatching(/another nixpkgs.*remove that `follows`/s)],
    });
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

  test('has the options and defaults of the table in docs/mac.md, and no others', async () => {
    const text = await readFile(join(REPOSITORY, 'docs/mac.md'), 'utf8');
    const table = text.slice(text.indexOf('## Options'));
    const rows = [...table.matchAll(/^\| `([^`]+)` +\| ([^|]*?) +\|/gm)].map(
      ([, name = '', shown = '']) => [name, shown] as const,
    );
    const internal = ['configFile', 'guest.build', 'guest.release', 'guest.manifest', 'guest.followsNixpkgs'];
    expect(rows.map(([name]) => name).sort()).toEqual(
      plain.options.filter((name) => !internal.includes(name)).sort(),
    );
    const defaults = rows.filter(([name]) => name in plain.values && name !== 'enable');
    expect(defaults.length).toBeGreaterThan(20);
    for (const [name, shown] of defaults) {
      expect([name, shown]).toEqual([name, `\`${inNix(plain.values[name])}\``]);
    }
  });

  test('is nothing where it is not enabled', async () => {
    const off = await darwin('({ lib, ... }: { services.drover.enable = lib.mkForce false; })');
    expect(off).toMatchObject({ failed: [], daemons: {}, etc: {}, packages: [], machines: '', checks: '' });
    expect(off.activation).toBe(
      'rm -f /nix/var/nix/gcroots/drover-guest-image\nrm -rf /nix/var/nix/gcroots/drover-guest-closure\n',
    );
  });
});

describeWith("how a Mac's Nix is told of Drover", ['nix', 'dist'], () => {
  test('as `drover machines` does', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'drover-machines-'));
    try {
      for (const configuration of [
        '{ }',
        `{ services.drover = { maxGuests = 7; jobsPerGuest = 3; workingDirectory = "${directory}"; }; }`,
        `{ services.drover = { supportedFeatures = [ ]; systems = [ "aarch64-linux" ]; }; }`,
        `{ services.drover.settings.doors.socket.path = "/run/a+b@c/%d/nix.sock"; }`,
      ]) {
        const { settings, machines, distributedBuilds, nixSettings } = await darwin(configuration);
        const file = join(directory, 'drover.yaml');
        await writeFile(file, JSON.stringify(settings));
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
      'ssh-ng://localhost?remote-program=ssh%20drover-shared%20nix-daemon aarch64-linux - 135 3 kvm,big-parallel,linux big-parallel,linux -\n',
    );
    expect(etc['ssh/ssh_config.d/100-drover.conf']).toBe(
      [
        'Host drover drover-shared',
        '  HostName 127.0.0.1',
        '  Port 2222',
        '  User drover',
        '  HostKeyAlias drover',
        '  UserKnownHostsFile /Volumes/fast/drover/ssh/known_hosts',
        '  StrictHostKeyChecking yes',
        '  ServerAliveInterval 15',
        '  IdentityFile /etc/nix/drover',
        '  IdentitiesOnly yes',
        'Host drover-shared',
        '  ControlMaster auto',
        '  ControlPath ~/.%n',
        '  ControlPersist 10m',
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

describeWith('services.drover on nix-darwin, in a modern Nix', ['nix', 'modern-nix'], () => {
  test('is the same', async () => {
    for (const configuration of ['{ }', EVERYTHING]) {
      expect(await darwin(configuration, { version: 'modern' })).toEqual(await darwin(configuration));
    }
  });
});
