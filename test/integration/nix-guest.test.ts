import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { evaluate } from '../support/nix-eval.js';
import { describeWith } from '../support/requirements.js';

/** Result of a guest's configuration: see test/nix/guest.nix. */
interface Guest {
  readonly fstab: string;
  /** Texts of units, without PATH. */
  readonly services: Readonly<Record<string, string>>;
  readonly sockets: Readonly<Record<string, string>>;
  readonly initrdServices: Readonly<Record<string, string>>;
  /** Units that want each of them. */
  readonly wanted: Readonly<Record<string, readonly string[]>>;
  readonly disabled: readonly string[];
  readonly mounts: readonly unknown[];
  readonly udev: string;
  readonly kernelParams: string;
  /** Undefined: NixOS' default. */
  readonly kernel: string | null;
  readonly emulated: readonly string[];
  readonly kernelModules: readonly string[];
  readonly initrdModules: readonly string[];
  readonly blacklistedKernelModules: readonly string[];
  /** Text after the settings. */
  readonly nixConf: string;
  readonly nixSettings: Readonly<Record<string, unknown>>;
  readonly buildUsers: number;
  readonly root: Readonly<Record<string, unknown>>;
  readonly chosen: Readonly<Record<string, boolean>>;
  readonly makesUsersAtBoot: boolean;
  readonly readOnlyStore: boolean;
  /** Whether it sets an option by a name that has been replaced. */
  readonly isWarned: boolean;
  readonly image: Readonly<Record<string, unknown>>;
}

const guest = async (args = ''): Promise<Guest> =>
  (await evaluate('debian', `import ./test/nix/guest.nix { ${args} }`)) as Guest;

/** The directives of a unit, by their names; those that are there twice, joined. */
function directives(text: string | undefined): Record<string, string> {
  const lines = (text ?? '').split('\n').filter((line) => line.includes('='));
  return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2) as [string, string]));
}

describeWith('a guest', ['nix'], () => {
  let plain: Guest;
  beforeAll(async () => {
    plain = await guest();
  });

  test("has the host's store below a layer of its own, and everything that is written on the scratch disk", () => {
    expect(plain.fstab.trim().split('\n').sort()).toEqual([
      '/dev/disk/by-id/virtio-drover-scratch /nix ext4 noatime,barrier=0,noinit_itable,nodev,nosuid,x-initrd.mount 0 0',
      '/nix/.scratch/build /build none bind 0 0',
      '/nix/.scratch/tmp /tmp none bind 0 0',
      'nix-store /nix/.share virtiofs ro,x-initrd.mount 0 0',
      'overlay /nix/store overlay x-initrd.mount,lowerdir=/sysroot/nix/.host,upperdir=/sysroot/nix/.scratch/upper,workdir=/sysroot/nix/.scratch/work 0 0',
      'rosetta /run/rosetta virtiofs ro,nofail 0 0',
      'tmpfs / tmpfs mode=0755,x-initrd.mount 0 0',
    ]);
    expect(plain.readOnlyStore).toBe(false);
  });

  test('formats that disk in the initrd, before it is mounted, and waits for no other device', () => {
    const device = String.raw`dev-disk-by\x2did-virtio\x2ddrover\x2dscratch.device`;
    expect(directives(plain.initrdServices['drover-scratch'])).toMatchObject({
      Requires: device,
      After: device,
      Before: 'sysroot-nix.mount',
      DefaultDependencies: 'false',
      ExecStart: expect.stringMatching(
        /\/bash \S+-format-scratch\.sh \/dev\/disk\/by-id\/virtio-drover-scratch$/,
      ),
    });
    expect(plain.initrdModules).toEqual(
      expect.arrayContaining(['virtio_pci', 'virtio_blk', 'virtiofs', 'overlay', 'ext4']),
    );
    expect(directives(plain.initrdServices['drover-exact-store'])).toMatchObject({
      Requires: 'sysroot-nix-.share.mount',
      After: 'sysroot-nix-.share.mount',
      Before: 'sysroot-nix-store.mount',
      IgnoreOnIsolate: 'true',
      KillMode: 'process',
      ExecStart: expect.stringMatching(
        /-exact-store\.sh \S+\/bin\/exact-store \/sysroot\/nix\/\.share \/sysroot\/nix\/\.host$/,
      ),
    });
    expect(directives(plain.initrdServices['drover-boot-failed'])).toMatchObject({
      WantedBy: 'emergency.target',
      ExecStart: expect.stringMatching(/-boot-failed\.sh$/),
    });
  });

  test('registers its own system, and has its identity, before its nix-daemon can be reached', () => {
    expect(plain.wanted['drover-registration']).toEqual(['nix-daemon.socket']);
    expect(directives(plain.services['drover-registration'])).toMatchObject({
      Before: expect.stringContaining('nix-daemon.socket'),
      After: 'drover-identity.service systemd-sysusers.service',
      RequiresMountsFor: '/nix/store',
      ExecStart: expect.stringMatching(/-load-registration\.sh$/),
    });
    expect(plain.wanted['drover-identity']).toEqual(['sysinit.target']);
    expect(directives(plain.services['drover-identity'])).toMatchObject({
      Before: 'sysinit.target shutdown.target',
      ExecStart: expect.stringMatching(/-take-identity\.sh \/run\/drover$/),
    });
  });

  test('listens on vsock for ssh and, through a proxy, for its daemon; and on a virtio-serial port', () => {
    expect(directives(plain.sockets['drover-ssh'])).toMatchObject({
      ListenStream: 'vsock::22',
      Accept: 'true',
      MaxConnections: '512',
      WantedBy: 'sockets.target',
    });
    expect(directives(plain.services['drover-ssh@'])).toMatchObject({
      StandardInput: 'socket',
      ExecStart: expect.stringMatching(/^-\S+\/bin\/sshd -i -e -f \S+-sshd_config$/),
    });
    expect(directives(plain.sockets['drover-daemon'])).toMatchObject({
      ListenStream: 'vsock::23',
      Requires: 'nix-daemon.socket',
    });
    expect(directives(plain.services['drover-daemon'])['ExecStart']).toMatch(
      /\/lib\/systemd\/systemd-socket-proxyd --connections-max=4096 \/nix\/var\/nix\/daemon-socket\/socket$/,
    );
    expect(plain.udev).toMatch(/ATTR\{name\}=="drover\.ssh".*SYSTEMD_WANTS\}\+="drover-ssh-port\.service"/);
    expect(directives(plain.services['drover-ssh-port'])['ExecStart']).toMatch(
      /-ssh-port\.sh \S+\/bin\/sshd -i /,
    );
    expect(plain.kernelModules).toEqual(['vmw_vsock_virtio_transport']);
    expect(plain.root).toMatchObject({ hashedPassword: '*', shell: '/bin/sh' });
  });

  test('has a shell on its console and a directory of the host only if its kernel is told so', () => {
    expect(directives(plain.services['drover-console'])).toMatchObject({
      ConditionKernelCommandLine: 'drover.console',
      StandardInput: 'tty',
      TTYPath: '/dev/console',
      Restart: 'always',
      ExecStart: expect.stringMatching(/\/bash \S+-console-shell\.sh \S+\/bin\/bash$/),
    });
    expect(plain.wanted['drover-console']).toEqual(['multi-user.target']);
    expect(plain.mounts).toEqual([
      expect.objectContaining({
        what: 'share',
        where: '/share',
        type: 'virtiofs',
        unitConfig: { ConditionKernelCommandLine: 'drover.share' },
      }),
    ]);
  });

  test('lets no build reach vsock', () => {
    const daemon = directives(plain.services['nix-daemon']);
    expect(daemon['RestrictAddressFamilies']).toBe('~AF_VSOCK');
    expect(daemon['SystemCallFilter']).toBe('~io_uring_setup io_uring_enter io_uring_register');
    expect(plain.blacklistedKernelModules).toEqual(['vsock_loopback']);
  });

  test.each(['nix-daemon', 'drover-ssh-port', 'drover-identity', 'drover-registration', 'drover-canary'])(
    'ends with %s, and says so',
    (name) => {
      expect(directives(plain.services[name])).toMatchObject({
        FailureAction: 'poweroff-force',
        SuccessAction: 'poweroff-force',
        ExecStopPost: expect.stringMatching(/\/bash \S+-unit-ended\.sh \S/),
      });
    },
  );

  test('does not end with a build that takes too much memory', () => {
    expect(directives(plain.services['nix-daemon'])['OOMPolicy']).toBe('continue');
  });

  test("has Nix settings of the driver's after its own, and keeps what modules want builds to see", () => {
    expect(plain.nixConf).toBe(
      '!include /run/drover/nix.conf\nextra-sandbox-paths = /run/rosettad? /run/binfmt /run/rosetta\n',
    );
    expect(plain.nixSettings).toMatchObject({ substituters: [], 'auto-optimise-store': false });
    expect(plain.buildUsers).toBeGreaterThanOrEqual(128);
  });

  test('starts the network when all else is up, and waits for nothing', () => {
    expect(plain.wanted['systemd-networkd']).toEqual([]);
    expect(plain.wanted['systemd-resolved']).toEqual([]);
    expect(directives(plain.services['drover-network'])).toMatchObject({
      After: 'sockets.target',
      ExecStart: expect.stringMatching(
        /systemctl start --no-block systemd-networkd\.service systemd-resolved\.service$/,
      ),
    });
    expect(plain.disabled).toEqual(
      expect.arrayContaining(['systemd-logind', 'linger-users', 'suid-sgid-wrappers']),
    );
  });

  test('has its users in its image: what runs early knows them', () => {
    expect(plain.makesUsersAtBoot).toBe(false);
  });

  test('ends in a panic, and has systemd wait neither for a console nor for mounts', () => {
    expect(plain.kernelParams.split(' ')).toEqual(
      expect.arrayContaining(['panic=1', 'TERM=dumb', 'SYSTEMD_DEFAULT_MOUNT_RATE_LIMIT_BURST=1000']),
    );
  });

  test('checks what runs x86_64 programs before the daemon can be reached, and says what the image builds', () => {
    // The newest that Rosetta of every macOS runs on.
    expect(plain.kernel).toBe('linuxPackages_6_1-1.0');
    expect(plain.emulated).toEqual(['x86_64-linux']);
    expect(plain.wanted['drover-canary']).toEqual(['nix-daemon.socket']);
    expect(directives(plain.services['systemd-binfmt'])).toMatchObject({ After: 'run-rosetta.mount' });
    expect(directives(plain.services['drover-rosettad'])).toMatchObject({
      ConditionPathExists: '/run/rosetta/rosettad',
      ExecStart: expect.stringMatching(
        /-rosettad\.sh \/run\/drover \/run\/rosetta\/rosettad \/nix\/\.scratch\/rosetta \/run\/rosettad$/,
      ),
    });
    expect(plain.image).toMatchObject({
      systems: ['aarch64-linux', 'x86_64-linux'],
      translators: ['qemu-user'],
      kernel: expect.stringMatching(/\/Image$/),
      shell: expect.stringMatching(/-busybox-sandbox-shell-1\.0\/bin\/busybox$/),
    });
  });

  test('of x86_64 has no Rosetta, and builds i686-linux', async () => {
    const x86 = await guest('system = "x86_64-linux";');
    expect(x86.image['systems']).toEqual(['x86_64-linux', 'i686-linux']);
    expect(x86.fstab).not.toContain('rosetta');
    expect(x86.emulated).toEqual([]);
    expect(Object.keys(x86.services)).not.toContain('drover-canary');
    expect(x86.nixConf).toBe('!include /run/drover/nix.conf\nextra-sandbox-paths = \n');
  });

  test('is the same under the options of an older NixOS, and uses no old names under those of a newer', async () => {
    expect(plain.isWarned).toBe(false);
    const older = await guest('newer = false;');
    expect(older).toEqual(plain);
  });
});

describeWith("a user's own modules", ['nix'], () => {
  test('extend it', async () => {
    const { image, nixConf, services } = await guest(`configuration = {
      drover.guest.systems = [ "riscv64-linux" ];
      nix.settings.extra-sandbox-paths = [ "/run/mine" ];
      systemd.services.mine = { wantedBy = [ "multi-user.target" ]; serviceConfig.ExecStart = "/bin/mine"; };
    };`);
    expect(image['systems']).toEqual(['aarch64-linux', 'x86_64-linux', 'riscv64-linux']);
    expect(nixConf).toContain('/run/mine');
    expect(services['mine']).toContain('ExecStart=/bin/mine');
  });

  test('have it do what Drover only has no need of', async () => {
    expect((await guest()).chosen).toEqual({ firewall: false, polkit: false, sudo: false });
    const { chosen } = await guest(`configuration = {
      networking.firewall.enable = true;
      security = { polkit.enable = true; sudo.enable = true; };
    };`);
    expect(chosen).toEqual({ firewall: true, polkit: true, sudo: true });
  });

  test('can do without Rosetta, with and without QEMU in its place', async () => {
    const { image, services, fstab } = await guest('configuration.drover.guest.rosetta.enable = false;');
    expect(image).toMatchObject({ systems: ['aarch64-linux'], translators: [] });
    expect(fstab).not.toContain('rosetta');
    expect(Object.keys(services)).not.toContain('drover-rosettad');
    expect(Object.keys(services)).not.toContain('drover-canary');
    const emulating = await guest(
      'configuration.drover.guest = { rosetta.enable = false; qemuUser.enable = true; };',
    );
    expect(emulating.image).toMatchObject({
      ...{ systems: ['aarch64-linux', 'x86_64-linux'], translators: ['qemu-user'] },
    });
    expect(Object.keys(emulating.services)).toContain('drover-canary');
    expect(emulating.kernel).toBeNull();
  });

  test.each([
    ['drover.guest.rosetta.enable = "yes"', /drover\.guest\.rosetta\.enable/],
    ['drover.guest.systems = [ 1 ]', /drover\.guest\.systems/],
    ['drover.guest.shell = "sh"', /drover\.guest\.shell/],
    ['drover.guest.rosseta.enable = true', /drover\.guest\.rosseta' does not exist/],
  ])('that are wrong are told so: %s', async (definition, error) => {
    await expect(guest(`configuration.${definition};`)).rejects.toThrow(error);
  });
});

describeWith('the units of a guest', ['nix', 'systemd'], () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'drover-units-'));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  /** systemd's complaints about units, checked together with those that order Drover's. */
  const verify = async (units: Readonly<Record<string, string>>): Promise<string> => {
    await mkdir(join(directory, 'units'));
    for (const [name, text] of Object.entries(units)) {
      // Programs are in a store that is not there; each of them is one that exists.
      await writeFile(
        join(directory, 'units', name),
        text.replaceAll(/^(Exec\w+=-?)\/nix\/store\/\S+/gm, '$1/bin/true'),
      );
    }
    const { stderr } = await execa(
      'systemd-analyze',
      [
        'verify',
        '--man=no',
        '--recursive-errors=no',
        ...Object.keys(units).map((name) => join(directory, 'units', name)),
      ],
      { reject: false, env: { SYSTEMD_LOG_LEVEL: 'warning' } },
    );
    return stderr;
  };

  test('are understood by systemd', async () => {
    const { services, sockets, initrdServices } = await guest();
    const ours = (units: Readonly<Record<string, string>>, suffix: string): [string, string][] =>
      Object.entries(units)
        .filter(([name]) => name.startsWith('drover-'))
        .map(([name, text]) => [`${name}${suffix}`, text]);
    expect(
      await verify({
        'nix-daemon.socket': '[Socket]\nListenStream=/nix/var/nix/daemon-socket/socket\n',
        'nix-daemon.service': `${services['nix-daemon'] ?? ''}ExecStart=/bin/true\n`,
        'systemd-binfmt.service': '[Service]\nExecStart=/bin/true\n',
        ...Object.fromEntries([
          ...ours(services, '.service'),
          ...ours(sockets, '.socket'),
          ...ours(initrdServices, '.service'),
        ]),
      }),
    ).toBe('');
  });

  test('and systemd would have said what is wrong', async () => {
    expect(
      await verify({ 'drover-x.service': '[Service]\nExecStart=/bin/true\nRestrictAddressFamily=AF_UNIX\n' }),
    ).toMatch(/RestrictAddressFamily/);
  });
});
