import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { REPOSITORY } from '../support/drover.js';

const DIRECTORY = join(REPOSITORY, 'guest-config/kernel');
const ARCHITECTURES = ['x86_64', 'aarch64'];

/** Options that NixOS modules assert of the kernel of such a guest (`system.requiredKernelConfig`). */
const NIXOS = [
  ...[
    'AUTOFS_FS',
    'BINFMT_ELF',
    'CGROUPS',
    'CRYPTO_HMAC',
    'CRYPTO_SHA256',
    'CRYPTO_USER_API_HASH',
    'DEVTMPFS',
  ],
  ...[
    'DMIID',
    'EPOLL',
    'EROFS_FS',
    'FHANDLE',
    'INOTIFY_USER',
    'MODULES',
    'NET',
    'PROC_FS',
    'SECCOMP',
    'SIGNALFD',
  ],
  ...['SYSFS', 'TIMERFD', 'TMPFS_POSIX_ACL', 'TMPFS_XATTR', 'UNIX'],
];

/** The options that build what the images load as modules with other kernels. */
const MODULES: Readonly<Record<string, string | undefined>> = {
  binfmt_misc: 'BINFMT_MISC',
  ext4: 'EXT4_FS',
  failover: 'VIRTIO_NET',
  net_failover: 'VIRTIO_NET',
  overlay: 'OVERLAY_FS',
  'rng-core': 'HW_RANDOM',
  'virtio-rng': 'HW_RANDOM_VIRTIO',
  virtio_blk: 'VIRTIO_BLK',
  virtio_console: 'VIRTIO_CONSOLE',
  virtio_net: 'VIRTIO_NET',
  virtio_pci: 'VIRTIO_PCI',
  virtiofs: 'VIRTIO_FS',
  vmw_vsock_virtio_transport: 'VIRTIO_VSOCKETS',
};

const fragment = async (name: string): Promise<string> =>
  await readFile(join(DIRECTORY, `${name}.config`), 'utf8');

/** Options by name, without `CONFIG_`, of what an architecture's kernel is built from. */
async function optionsOf(architecture: string): Promise<string[]> {
  const lines = `${await fragment('guest')}${await fragment(architecture)}`.matchAll(/^CONFIG_(\w+)=/gm);
  return [...lines].map(([, name]) => name ?? '');
}

test.each(['guest', ...ARCHITECTURES])(
  '%s.config is comments with sorted options, none a module',
  async (name) => {
    const groups = (await fragment(name)).trimEnd().split('\n\n').slice(1);
    expect(groups.length).toBeGreaterThan(2);
    for (const group of groups) {
      expect(group).toMatch(/^(# .+\n)+(CONFIG_\w+=(y|\d+|"[^"]*")(\n|$))+$/);
      const names = group.split('\n').flatMap((line) => /^\w+/.exec(line) ?? []);
      expect(names).toEqual([...names].sort());
    }
  },
);

test.each(ARCHITECTURES)(
  'the kernel for %s has each option once, and what NixOS asks for',
  async (architecture) => {
    const options = await optionsOf(architecture);
    expect(options.filter((name, index) => options.indexOf(name) !== index)).toEqual([]);
    expect(options).toEqual(expect.arrayContaining(NIXOS));
  },
);

test('all that the images load as modules is built in', async () => {
  const read = async (file: string): Promise<string> =>
    await readFile(join(REPOSITORY, 'guest-config', file), 'utf8');
  const lists = [
    ...(await read('debian/build.sh')).matchAll(/^ {2}\[\w+\]="([^"]+)"/gm),
    ...(await read('nixos/boot.nix')).matchAll(/initrd\.kernelModules = \[([^\]]+)\]/g),
    ...(await read('nixos/ssh.nix')).matchAll(/boot\.kernelModules = \[([^\]]+)\]/g),
  ].map(([, list]) => list ?? '');
  expect(lists).toHaveLength(5);
  const options = await optionsOf('aarch64');
  for (const name of lists.flatMap((list) => list.match(/[\w-]+/g) ?? []))
    expect([name, options.includes(MODULES[name] ?? '')]).toEqual([name, true]);
});

test.each([
  { script: 'kernel', args: ['x86_64'], exitCode: 2, said: 'usage: ' },
  { script: 'kernel', args: ['vax', '/tmp/none'], exitCode: 2, said: 'for x86_64 and aarch64, not for vax' },
  {
    script: 'debian',
    args: ['x86_64', '/tmp/none', '/tmp/nowhere'],
    exitCode: 1,
    said: 'no complete kernel for x86_64',
  },
])('guest-config/$script/build.sh $args', async ({ script, args, exitCode, said }) => {
  const directory = await mkdtemp(join(tmpdir(), 'kernel-'));
  const build = join(REPOSITORY, 'guest-config', script, 'build.sh');
  const result = await execa(build, args, { reject: false, cwd: directory });
  await rm(directory, { recursive: true });
  expect(result).toMatchObject({ exitCode, stderr: expect.stringContaining(said) });
});
