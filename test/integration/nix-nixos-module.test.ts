import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { defaultConfig } from '../../src/config/load.js';
import { REPOSITORY, runDrover } from '../support/drover.js';
import { load, nixos, type NixosSystem } from '../support/host-modules.js';
import { describeWith } from '../support/requirements.js';

const CI_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE9fUnqX9BhtJW3cQ3pQTMhkKtBUSkMfr5dJrR8iTAFi';
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEaKvjLndRKpfZtYZ7Zb+nUULxaRE54cdxfBspGKKkrN me@example';
const EVERYTHING = `{ services.drover = {
  systems = [ "x86_64-linux" ];
  supportedFeatures = [ "big-parallel" ];
  mandatoryFeatures = [ "linux" ];
  maxGuests = 3; warmGuests = 1; jobsPerGuest = 2; idleTimeout = "10s";
  cores = 6; memory = "12GiB"; scratchSize = "50GB";
  metrics.listen = null;
  ssh = { enable = true; listen = "[::]:2222"; authorizedKeys = [ "${KEY}" ]; clients = [ { key = "${CI_KEY}"; name = "ci"; maxBuilds = 8; } ]; };
  door = null;
  settings.log.level = "debug";
}; }`;
/** In place of a package that is not there. */
const PROGRAM = '/bin/true';

/** The lines of a unit: each key of each section with all that is said of it. */
function parseUnit(text: string): ReadonlyMap<string, readonly string[]> {
  const values = new Map<string, string[]>();
  let section = '';
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('[')) section = line;
    const [key = '', ...rest] = line.split('=');
    if (rest.length > 0)
      values.set(`${section}${key}`, [...(values.get(`${section}${key}`) ?? []), rest.join('=')]);
  }
  return new Map([...values].map(([key, all]) => [key, all.join(' ').split(' ').sort()]));
}

describeWith('services.drover on NixOS', ['nix', 'dist'], () => {
  let plain: NixosSystem;
  let full: NixosSystem;
  beforeAll(async () => {
    plain = await nixos('{ }');
    full = await nixos(EVERYTHING);
  });

  test('is a service with all that guests are made of', () => {
    expect(plain.failed).toEqual([]);
    expect(plain.warnings).toEqual([]);
    expect(plain.unit).toMatch(
      /\nExecStart=\/nix\/store\/\w+-drover-1\.0\/bin\/drover serve --config \/etc\/drover\/drover\.yaml\n/,
    );
    // Before busybox, whose programs of the same names can do less.
    expect(plain.path).toEqual([
      ...['nix-2.34.0', 'slirp4netns-1.0', 'util-linux-1.0', 'busybox-static-1.0', 'sqlite-1.0'],
    ]);
    expect(plain.kernelModules).toEqual(['overlay']);
    expect(plain.tmpfiles).toEqual(['d /var/lib/drover 0700 root root - -']);
    expect(plain.packages).toEqual(['drover-1.0']);
    expect(plain.etc).toEqual({ 'drover/drover.yaml': null });
    expect(plain.configFile).toContain('/bin/drover check --config /nix/store/');
  });

  test('is not restarted by a change of the configuration', () => {
    expect(full.unit).toBe(plain.unit);
  });

  test('may do as little as packaging/drover.service', async () => {
    const ours = parseUnit(plain.unit);
    const theirs = parseUnit(await readFile(join(REPOSITORY, 'packaging/drover.service'), 'utf8'));
    const different = [...new Set([...ours.keys(), ...theirs.keys()])].filter(
      (key) => ours.get(key)?.join(' ') !== theirs.get(key)?.join(' '),
    );
    expect(different.sort()).toEqual(
      [
        'Environment',
        'ExecReload',
        'ExecStart',
        'ExecStartPre',
        'ProtectSystem',
        'ReadWritePaths',
        'StateDirectory',
        'StateDirectoryMode',
      ].map((key) => `[Service]${key}`),
    );
    expect(ours.get('[Service]ProtectSystem')).toEqual(['strict']);
    expect(ours.get('[Service]ReadWritePaths')).toEqual(['/var/lib/drover']);
  });

  test('says in its file what Drover has by default', () => {
    expect(load(plain.settings)).toEqual({
      ...defaultConfig({ env: {}, uid: 0, home: '/root' }),
      driver: 'namespace',
      systems: ['x86_64-linux', 'i686-linux'],
    });
  });

  test('says in its file what its options say', () => {
    expect(full.failed).toEqual([]);
    expect(load(full.settings)).toMatchObject({
      systems: ['x86_64-linux'],
      features: ['big-parallel', 'linux'],
      pool: { maxGuests: 3, warmGuests: 1, jobsPerGuest: 2, idleTimeoutMs: 10_000 },
      guest: { cores: 6, memoryBytes: 12 * 1024 ** 3, scratchSizeBytes: 50 * 1000 ** 3, image: undefined },
      doors: {
        ssh: {
          listen: { host: '::', port: 2222 },
          clients: [
            { name: 'ci', maxBuilds: 8 },
            { name: 'me@example', trusted: false },
          ],
        },
      },
      metrics: null,
      log: { level: 'debug', file: undefined },
    });
    expect(full).toMatchObject({ machines: '', distributedBuilds: false });
    expect(full.sshConfig).toContain('Host drover drover-shared\n  HostName ::1\n  Port 2222\n');
  });

  test('tells Nix what `drover machines` prints', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'drover-machines-'));
    try {
      await writeFile(join(directory, 'drover.yaml'), JSON.stringify(plain.settings));
      expect(await runDrover(['machines', '--config', join(directory, 'drover.yaml')])).toEqual({
        exitCode: 0,
        stdout: plain.machines,
        stderr: '',
      });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
    expect(plain).toMatchObject({
      distributedBuilds: true,
      nixSettings: { 'builders-use-substitutes': true },
    });
  });

  test('builds what the host emulates, where that works in a sandbox', async () => {
    const emulated = (how: string) =>
      nixos(`{ boot.binfmt = { emulatedSystems = [ "x86_64-linux" "wasm32-wasi" ]; ${how} }; }`, {
        more: 'system = "aarch64-linux";',
      });
    expect((await emulated('preferStaticEmulators = true;')).settings['systems']).toEqual([
      'aarch64-linux',
      'x86_64-linux',
    ]);
    expect((await emulated('')).settings['systems']).toEqual(['aarch64-linux']);
  });

  test('has virtual machines if it is given an image', async () => {
    const vms = await nixos(
      '{ services.drover = { driver = "qemu"; guest.image = "/images/manifest.json"; }; }',
    );
    expect(vms.failed).toEqual([]);
    expect(load(vms.settings)).toMatchObject({ driver: 'qemu', guest: { image: '/images/manifest.json' } });
    expect(vms.path).toEqual(expect.arrayContaining(['qemu_kvm-1.0', 'virtiofsd-1.0']));
    // Package of Drover's flake; must not be built unless requested.
    const build = 'services.drover.guest.build = _: throw "built";';
    expect((await nixos(`{ ${build} }`)).settings['guest']).not.toHaveProperty('image');
    await expect(nixos(`{ ${build} services.drover.driver = "qemu"; }`)).rejects.toThrow('built');
    const none = await nixos('{ services.drover.driver = "qemu"; }');
    expect(none.failed).toEqual([
      expect.stringMatching(/no image for guests to boot from\. Name the manifest/),
    ]);
  });

  test('may write to its own directories, wherever they are', async () => {
    const { unit, tmpfiles, machines } = await nixos(
      '{ services.drover = { workingDirectory = "/srv/d"; settings.doors.socket.path = "/run/d/nix.sock"; }; }',
    );
    expect(parseUnit(unit).get('[Service]ReadWritePaths')).toEqual(['/run/d', '/srv/d']);
    expect(tmpfiles).toEqual(['d /srv/d 0700 root root - -', 'd /run/d 0700 root root - -']);
    expect(machines).toContain('remote-program=/run/d/connect ');
    const logging = await nixos('{ services.drover.settings.log.file = "/var/log/drover.log"; }');
    expect(parseUnit(logging.unit).get('[Service]ReadWritePaths')).toEqual(['/var/lib/drover', '/var/log']);
    expect(logging.tmpfiles).toEqual(['d /var/lib/drover 0700 root root - -']);
  });

  test('is nothing where it is not enabled', async () => {
    expect(await nixos('({ lib, ... }: { services.drover.enable = lib.mkForce false; })')).toMatchObject({
      failed: [],
      services: [],
      etc: {},
      packages: [],
      machines: '',
      tmpfiles: [],
      kernelModules: [],
    });
  });

  test.each([
    ['driver = "vz";', /driver' is not of type `one of "namespace", "qemu"'/],
    ['rosetta.enable = true;', /`services\.drover\.rosetta' does not exist/],
    ['maxJobs = 0;', /maxJobs' is not of type `positive integer/],
  ])('refuses %s', async (setting, message) => {
    await expect(nixos(`{ services.drover = { ${setting} }; }`)).rejects.toThrow(message);
  });
});

describeWith('services.drover on NixOS, in a modern Nix', ['nix', 'modern-nix'], () => {
  test('is the same', async () => {
    for (const configuration of ['{ }', EVERYTHING]) {
      expect(await nixos(configuration, { version: 'modern' })).toEqual(await nixos(configuration));
    }
  });
});

describeWith('systemd', ['nix', 'systemd'], () => {
  test.each(['the module', 'packaging'])("finds no fault with %s's unit", async (whose) => {
    const text =
      whose === 'packaging'
        ? await readFile(join(REPOSITORY, 'packaging/drover.service'), 'utf8')
        : (await nixos('{ }')).unit;
    const directory = await mkdtemp(join(tmpdir(), 'drover-unit-'));
    try {
      const file = join(directory, 'drover.service');
      // It looks for the programs too.
      await writeFile(file, text.replaceAll(/^(Exec\w+=[-+]*)\S+/gm, `$1${PROGRAM}`));
      const { stderr } = await execa('systemd-analyze', ['verify', '--man=no', file]);
      expect(stderr).toBe('');
      await writeFile(
        file,
        `${text.replaceAll(/^(Exec\w+=[-+]*)\S+/gm, `$1${PROGRAM}`)}\n[Service]\nKilMode=mixed\n`,
      );
      expect(
        (await execa('systemd-analyze', ['verify', '--man=no', file], { reject: false })).stderr,
      ).toContain('KilMode');
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});
