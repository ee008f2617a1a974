import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { darwin } from '../support/host-modules.js';
import { describeWith } from '../support/requirements.js';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEaKvjLndRKpfZtYZ7Zb+nUULxaRE54cdxfBspGKKkrN me@example';

describeWith('what does not fit together is refused, with advice', ['nix'], () => {
  const d = (text: string): string => `{ services.drover = { ${text} }; }`;
  test.each([
    ['more warm guests than guests', d('warmGuests = 3;'), /warmGuests is 3, more than the 2 of.*maxGuests/s],
    ['an ssh door without keys', d('ssh.enable = true;'), /no client could use that door.*authorizedKeys/s],
    ['Nix at an ssh door that is not there', d('door = "ssh";'), /there is no ssh door.*ssh\.enable = true/s],
    [
      'an unknown port',
      d(`ssh = { enable = true; authorizedKeys = [ "${KEY}" ]; listen = "[::]:0"; };`),
      /any free port.*Choose one/s,
    ],
    [
      'a system that is not to be had',
      d('systems = [ "aarch64-linux" "armv7l-linux" ];'),
      /cannot build "armv7l-linux"\. Remove it: they build "aarch64-linux", "x86_64-linux"/,
    ],
    [
      'x86_64 without any translator',
      d('systems = [ "x86_64-linux" ]; rosetta.enable = false; settings.guest.x86_64 = [ "rosetta" ];'),
      /only build with Rosetta or QEMU.*rosetta\.enable = true/s,
    ],
    [
      'kvm without nested virtualization',
      d('supportedFeatures = [ "kvm" ];'),
      /guests have no \/dev\/kvm.*nestedVirtualization = true/s,
    ],
    ['kvm by settings', d('settings.features = [ "kvm" ];'), /guests have no \/dev\/kvm/],
    [
      'x86_64 without any translator, by settings',
      d('settings.guest = { rosetta.enable = false; x86_64 = [ "rosetta" ]; };'),
      /only build with Rosetta or QEMU.*rosetta\.enable = true/s,
    ],
    ['an image that is taken away', d('settings.guest.image = null;'), /there is no image for guests/],
    [
      "guests of one's own, and the released image",
      d('guest = { image = "release"; config = { }; };'),
      /guest\.config makes an image of its own.*guest\.image = "build"/s,
    ],
    [
      'more jobs than a guest of the vz driver has connections',
      d('jobsPerGuest = 512;'),
      /jobsPerGuest is 512, and a guest on a Mac has at most 511 jobs.*maxGuests/s,
    ],
    ['the same, by settings', d('settings.pool.jobsPerGuest = 600;'), /jobsPerGuest is 600/],
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

  test('as many jobs as a guest of the vz driver can have, or more in those of another', async () => {
    expect((await darwin(d('jobsPerGuest = 511;'))).failed).toEqual([]);
    expect((await darwin(d('jobsPerGuest = 512; settings.driver = "qemu";'))).failed).toEqual([]);
  });

  test('linux-builder for other systems is no matter', async () => {
    const others = '{ nix.linux-builder = { enable = true; systems = [ "riscv64-linux" ]; }; }';
    expect((await darwin(others)).failed).toEqual([]);
  });

  test("the same systems as Determinate's linux-builder, where Determinate's module is used", async () => {
    const more = 'extraModules = [ ./test/nix/hosts/determinate.nix ];';
    const both = 'nixosVmBasedLinuxBuilder.enable = true;';
    const { failed } = await darwin(`{ determinateNix = { ${both} }; }`, { more });
    expect(failed).toEqual([
      expect.stringMatching(
        /would both build "aarch64-linux".*determinateNix\.nixosVmBasedLinuxBuilder\.enable = false/s,
      ),
    ]);
    const unused = await darwin(`{ determinateNix = { enable = false; ${both} }; }`, { more });
    expect(unused.failed).toEqual([]);
  });

  test('keys for a door that is closed are only a warning', async () => {
    const { failed, warnings } = await darwin(d(`ssh.authorizedKeys = [ "${KEY}" ];`));
    expect(failed).toEqual([]);
    expect(warnings).toEqual([expect.stringMatching(/no ssh door to use them with.*ssh\.enable = true/s)]);
  });

  test.each([
    [
      'memory = 8192;',
      /`services\.drover\.memory' is not of type `null or size with its unit, such as "8GiB" or "512MiB"'/,
    ],
    ['scratchSize = "20 gigabytes";', /scratchSize' is not of type `null or size with its unit/],
    ['idleTimeout = "5 minutes";', /idleTimeout' is not of type `duration, such as "5m"/],
    ['idleTimeout = 300;', /idleTimeout' is not of type/],
    ['maxGuests = 0;', /maxGuests' is not of type `integer between 1 and 1024/],
    ['systems = [ ];', /systems' is not of type `non-empty/],
    ['systems = [ "aarch64-linux x86_64-linux" ];', /systems\..*' is not of type `word without spaces/],
    ['supportedFeatures = "kvm";', /supportedFeatures' is not of type `list of/],
    ['ssh.listen = "::1:22";', /ssh\.listen' is not of type `address and port/],
    ['metrics.listen = "9619";', /metrics\.listen' is not of type `null or address and port/],
    ['ssh = { enable = true; authorizedKeys = [ "a\\nb" ]; };', /authorizedKeys\..*' is not of type/],
    [
      'workingDirectory = "/var/lib/my drover";',
      /workingDirectory' is not of type `absolute path of letters/,
    ],
    ['settings.stateDir = "/my drover";', /settings\.stateDir' is not of type `absolute path of letters/],
    [
      'settings.log.file = "/var/log/my drover.log";',
      /settings\.log\.file' is not of type `null or absolute/,
    ],
    ['settings.doors.ssh.listen = "22";', /settings\.doors\.ssh\.listen' is not of type `address and port/],
    [
      `ssh = { enable = true; authorizedKeys = [ "${KEY}" ]; identityFile = "/etc/my key"; };`,
      /ssh\.identityFile' is not of type `null or absolute path/,
    ],
    ['workingDirectory = "drover";', /workingDirectory' is not of type/],
    ['door = "tcp";', /door' is not of type `null or one of "socket", "ssh"'/],
    ['settings.pool.maxGuests = "3";', /settings\.pool\.maxGuests' is not of type `positive integer/],
    ['maxGuest = 3;', /`services\.drover\.maxGuest' does not exist/],
    ['protocol = "ssh";', /`services\.drover\.protocol' does not exist/],
    ['rosetta = true;', /`services\.drover\.rosetta'/],
    ['configFile = "/etc/drover.yaml";', /configFile' is read-only/],
  ])('%s', async (setting, message) => {
    await expect(darwin(d(setting))).rejects.toThrow(message);
  });
});

describeWith('what is looked at when a Mac activates its system', ['nix'], () => {
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
      [
        '--norc',
        '-c',
        `set -e -o pipefail\n${checks.replaceAll('/usr/bin/arch', 'arch').replaceAll('/etc/drover/', `${directory}/drover/`)}\necho activated`,
      ],
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

  test('Rosetta is installed, if it is enabled', async () => {
    const missing = await check('{ }', '15.1', false);
    expect(missing).toMatchObject({ exitCode: 0, stdout: 'activated' });
    expect(missing.stderr).toContain('softwareupdate --install-rosetta');
    const unused = await check('{ services.drover.rosetta.enable = false; }', '15.1', false);
    expect(unused).toMatchObject({ exitCode: 0, stderr: '' });
  });

  test('bootstrap has registered no other Drover', async () => {
    await mkdir(join(directory, 'drover'));
    const file = join(directory, 'drover/drover.yaml');
    // As nix-darwin itself has it.
    await symlink('/etc/static/drover/drover.yaml', file);
    expect(await check('{ }', '15.1', true)).toMatchObject({ exitCode: 0, stderr: '' });
    await rm(file);
    await writeFile(file, '');
    const { exitCode, stdout, stderr } = await check('{ }', '15.1', true);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toContain('error: bootstrap has registered a Drover of its own, aborting activation');
    expect(stderr).toContain('sudo launchctl bootout system/org.nixos.drover');
    expect(stderr).toContain(`sudo rm ${file} /etc/newsyslog.d/drover.conf`);
  });

  test('the working directory belongs to no other service', async () => {
    const at = (path: string): string => `{ services.drover.workingDirectory = "${path}"; }`;
    const path = join(directory, 'state');
    expect(await check(at(path), '15.1', true)).toMatchObject({ exitCode: 0, stderr: '' });
    await mkdir(path, { mode: 0o755 });
    expect(await check(at(path), '15.1', true)).toMatchObject({ exitCode: 0, stderr: '' });
    await writeFile(join(path, 'letter'), '');
    const { exitCode, stdout, stderr } = await check(at(path), '15.1', true);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toContain(
      `error: Drover would close ${path} to others, and it has files of theirs, aborting activation`,
    );
    expect(stderr).toContain(`services.drover.workingDirectory = "${path}/drover";`);
    // As Drover leaves it.
    await chmod(path, 0o700);
    expect(await check(at(path), '15.1', true)).toMatchObject({ exitCode: 0, stderr: '' });
  });
});
