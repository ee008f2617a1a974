import { chmod, cp, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { execa } from 'execa';

import { REPOSITORY } from './drover.js';
import { evaluate } from './nix-eval.js';
import { waitUntil } from './wait.js';

/** Output of test/support/get-systemd.sh. */
export const SYSTEMD_DIR = join(REPOSITORY, '.cache/systemd');

interface Units {
  readonly services: Readonly<Record<string, string>>;
  readonly sockets: Readonly<Record<string, string>>;
  readonly initrdServices: Readonly<Record<string, string>>;
  readonly wanted: Readonly<Record<string, readonly string[]>>;
  readonly initrdWanted: Readonly<Record<string, readonly string[]>>;
  readonly disabled: readonly string[];
  readonly fstab: string;
  readonly initrdFstab: string;
  readonly udev: string;
  readonly kernelParams: string;
  readonly kernelModules: readonly string[];
  readonly initrdModules: readonly string[];
  readonly nixConf: string;
}

interface SystemdImage {
  readonly manifest: string;
  readonly system: string;
  /** Removes from the store what was added to it. */
  readonly remove: () => Promise<void>;
}

const BUILD_USERS = 128;
/** Names that Debian's udev rules speak of are of no interest here. */
const GROUPS = [
  'root:0',
  'tty:5',
  'disk:6',
  'kmem:15',
  'input:17',
  'utmp:43',
  'kvm:44',
  'systemd-journal:45',
];
/** Upstream units that Debian turns on and NixOS does not have, or that guest-config/nixos turns off by an option. */
const ABSENT = [
  ...[
    'systemd-firstboot.service',
    'systemd-sysusers.service',
    'systemd-timesyncd.service',
    'ldconfig.service',
  ],
  ...['systemd-networkd.service', 'systemd-resolved.service', 'systemd-networkd-wait-online.service'],
  ...['getty.target', 'remote-fs.target', 'systemd-networkd.socket'],
];
/** As Nix's package has them. */
const NIX_UNITS = {
  'nix-daemon.socket':
    '[Unit]\nRequiresMountsFor=/nix/store\nConditionPathIsReadWrite=/nix/var/nix/daemon-socket\n' +
    '[Socket]\nListenStream=/nix/var/nix/daemon-socket/socket\n',
  'nix-daemon.service':
    '[Unit]\nRequiresMountsFor=/nix/store\nConditionPathIsReadWrite=/nix/var/nix/daemon-socket\n' +
    '[Service]\nExecStart=@/usr/bin/nix-daemon nix-daemon --daemon\nKillMode=process\n',
};

/**
 * Makes an image whose units, mounts and scripts are those of the NixOS guest, and whose programs are Debian's: what it
 * shows is that systemd does with the former what they are meant for. Its system is in this machine's store.
 */
export async function makeSystemdImage(directory: string): Promise<SystemdImage> {
  const units = (await evaluate(
    'modern',
    'import ./test/nix/guest.nix { system = "x86_64-linux"; isDebian = true; }',
  )) as Units;
  const root = join(directory, 'root');
  await cp(join(SYSTEMD_DIR, 'root'), root, { recursive: true, verbatimSymlinks: true });
  await writeCommon(root, units);
  const initrd = join(directory, 'initrd.d');
  await cp(root, initrd, { recursive: true, verbatimSymlinks: true });
  await writeInitrd(initrd, units);
  await writeSystem(root, units);

  const store = async (...args: readonly string[]): Promise<string> =>
    (await execa('nix-store', args)).stdout;
  const system = await store('--add', root);
  const registrationFile = join(directory, 'registration');
  await writeFile(registrationFile, `${await store('--dump-db', system)}\n`);
  const registration = await store('--add', registrationFile);
  await execa('sh', ['-c', 'find . | cpio --quiet -o -H newc -R 0:0 > ../initrd'], { cwd: initrd });
  await cp(join(SYSTEMD_DIR, 'kernel'), join(directory, 'kernel'));
  await Promise.all([initrd, root].map((path) => rm(path, { recursive: true })));

  const manifest = {
    generation: basename(system).slice(0, 32),
    nixVersion: '2.26.3',
    protocol: { major: 1, minor: 38, features: [] },
    systems: ['x86_64-linux'],
    architecture: 'x86_64',
    kernel: { path: 'kernel' },
    initrd: { path: 'initrd' },
    commandLine: [
      ...['root=fstab', units.kernelParams, 'init=/usr/lib/systemd/systemd'],
      ...[`test.system=${system}`, `drover.registration=${registration}`],
      // An emulated guest of a slow machine may need longer than real ones.
      'systemd.default_device_timeout_sec=500',
    ].join(' '),
    shell: '/usr/bin/busybox',
    system,
  };
  await writeFile(join(directory, 'manifest.json'), JSON.stringify(manifest));
  // Pins of a supervisor end a moment after it.
  const remove = async (): Promise<void> => {
    await waitUntil('the end of the image', async () => {
      const args = ['--delete', registration, system];
      return (await execa('nix-store', args, { reject: false })).exitCode === 0;
    });
  };
  return { manifest: join(directory, 'manifest.json'), system, remove };
}

async function put(root: string, name: string, content: string): Promise<void> {
  const file = join(root, name);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, content);
}

async function link(root: string, name: string, target: string): Promise<void> {
  await mkdir(dirname(join(root, name)), { recursive: true });
  await symlink(target, join(root, name));
}

/** Replaces paths of the flake's files by those of writeCommon. */
function installed(text: string): string {
  return text
    .replaceAll(/\/nix\/store\/\w+-([a-z-]+\.sh)/g, '/usr/lib/drover/$1')
    .replaceAll(/\/nix\/store\/\w+-sshd_config/g, '/etc/ssh/sshd_config');
}

async function putUnits(
  root: string,
  texts: Readonly<Record<string, string>>,
  suffix: string,
  wanted: Units['wanted'],
): Promise<void> {
  for (const [name, text] of Object.entries(texts)) {
    const unit = `${name}${suffix}`;
    // Others add to a unit that is there.
    const isOurs = name.startsWith('drover-') || name.startsWith('rw-');
    await put(root, `etc/systemd/system/${unit}${isOurs ? '' : '.d/drover.conf'}`, installed(text));
    for (const target of isOurs ? (wanted[name] ?? []) : [])
      await link(root, `etc/systemd/system/${target}.requires/${unit}`, `../${unit}`);
  }
}

async function writeCommon(root: string, units: Units): Promise<void> {
  for (const name of ['dev', 'proc', 'sys', 'run', 'tmp', 'root', 'nix', 'build', 'var/empty'])
    await mkdir(join(root, name), { recursive: true });
  await link(root, 'usr/bin/sh', 'bash');
  await link(root, 'usr/bin/awk', 'mawk');
  await link(root, 'usr/bin/sshd', '../sbin/sshd');
  await link(root, 'usr/lib64/ld-linux-x86-64.so.2', '../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2').catch(
    () => undefined,
  );
  for (const name of ['nix-daemon', 'nix-store'])
    await link(root, `usr/bin/${name}`, 'nix').catch(() => undefined);
  const scripts = join(REPOSITORY, 'guest-config');
  for (const name of await readdir(scripts))
    if (name.endsWith('.sh'))
      await put(root, `usr/lib/drover/${name}`, await readFile(join(scripts, name), 'utf8'));
  await cp(join(scripts, 'drover-guest.sh'), join(root, 'usr/bin/drover-guest'));
  await chmod(join(root, 'usr/bin/drover-guest'), 0o755);

  const users = Array.from({ length: BUILD_USERS }, (_, index) => `nixbld${index + 1}`);
  const accounts = users.map((name, index) => `${name}:x:${30_001 + index}:30000::/var/empty:/bin/false`);
  const special = [
    'root:x:0:0::/root:/bin/sh',
    'sshd:x:100:65534::/run/sshd:/bin/false',
    'nobody:x:65534:65534::/:/bin/false',
  ];
  const groups = [
    ...GROUPS.map((group) => group.replace(':', ':x:') + ':'),
    `nixbld:x:30000:${users.join()}`,
    'nogroup:x:65534:',
  ];
  await put(root, 'etc/passwd', `${[...special, ...accounts].join('\n')}\n`);
  await put(root, 'etc/group', `${groups.join('\n')}\n`);
  await put(root, 'etc/shadow', 'root:*:20000::::::\n');
  await put(root, 'etc/nsswitch.conf', 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n');
  await put(root, 'etc/os-release', 'ID=test\n');
  await put(root, 'etc/machine-id', '');
  for (const [name, text] of Object.entries(NIX_UNITS))
    await put(root, `usr/lib/systemd/system/${name}`, text);
  for (const name of [...units.disabled.map((unit) => `${unit}.service`), ...ABSENT])
    await link(root, `etc/systemd/system/${name}`, '/dev/null');
}

async function writeInitrd(root: string, units: Units): Promise<void> {
  await put(root, 'etc/initrd-release', 'ID=test\n');
  await link(root, 'init', 'usr/lib/systemd/systemd');
  await link(root, 'etc/systemd/system/default.target', '/usr/lib/systemd/system/initrd.target');
  await putUnits(root, units.initrdServices, '.service', units.initrdWanted);
  await put(root, 'etc/modules-load.d/drover.conf', `${units.initrdModules.join('\n')}\n`);
  await put(root, 'etc/sysroot.fstab', units.initrdFstab);
  const environment = 'SYSTEMD_SYSROOT_FSTAB=/etc/sysroot.fstab PATH=/usr/bin:/usr/sbin';
  await put(
    root,
    'etc/systemd/system.conf',
    `[Manager]\nDefaultEnvironment=${environment}\nManagerEnvironment=${environment}\n`,
  );
  // As NixOS makes it for an overlay.
  await put(
    root,
    'etc/systemd/system/overlay.service',
    '[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/sysroot/nix\nBefore=sysroot-nix-store.mount\n' +
      '[Service]\nType=oneshot\nExecStart=/usr/bin/mkdir -p /sysroot/nix/.scratch/upper /sysroot/nix/.scratch/work\n',
  );
  await link(
    root,
    'etc/systemd/system/sysroot-nix-store.mount.requires/overlay.service',
    '../overlay.service',
  );
  // In place of NixOS's activation: the root's directories, from the system in the store.
  await put(
    root,
    'etc/activate.sh',
    `set -e
for word in $(cat /proc/cmdline); do case $word in test.system=*) system=/sysroot\${word#*=} ;; esac; done
cd /sysroot
mkdir -p usr dev proc sys run tmp root var build
mount -o bind "$system/usr" usr
for link in bin sbin lib lib64; do ln -s "usr/$link" "$link"; done
cp -a "$system/etc" etc
chmod -R u+w etc
`,
  );
  await put(
    root,
    'etc/systemd/system/activate.service',
    '[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/sysroot/nix/store\nBefore=initrd-fs.target\n' +
      '[Service]\nType=oneshot\nExecStart=/bin/bash /etc/activate.sh\n',
  );
  await link(root, 'etc/systemd/system/initrd-fs.target.requires/activate.service', '../activate.service');
}

async function writeSystem(root: string, units: Units): Promise<void> {
  await put(root, 'etc/fstab', units.fstab);
  await put(root, 'etc/modules-load.d/drover.conf', `${units.kernelModules.join('\n')}\n`);
  await link(root, 'etc/systemd/system/default.target', '/usr/lib/systemd/system/multi-user.target');
  await put(root, 'etc/nix/nix.conf', units.nixConf);
  await link(root, 'etc/drover/manifest.json', '/run/drover/manifest.json');
  await put(root, 'etc/tmpfiles.d/nix-daemon.conf', 'd /nix/var/nix/daemon-socket 0755 root root - -\n');
  await put(
    root,
    'etc/ssh/sshd_config',
    `${await readFile(join(REPOSITORY, 'guest-config/sshd_config'), 'utf8')}SetEnv PATH=/usr/bin:/usr/sbin\n`,
  );
  await put(root, 'etc/udev/rules.d/99-local.rules', units.udev);
  for (const name of ['getty', 'gpt-auto', 'ssh'])
    await link(root, `etc/systemd/system-generators/systemd-${name}-generator`, '/dev/null');
  await putUnits(root, units.services, '.service', units.wanted);
  await putUnits(root, units.sockets, '.socket', units.wanted);
  await link(
    root,
    'etc/systemd/system/sockets.target.wants/nix-daemon.socket',
    '/usr/lib/systemd/system/nix-daemon.socket',
  );
}
