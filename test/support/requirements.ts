import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, test } from '@jest/globals';

import { REPOSITORY } from './drover.js';
import { NIX_DIRS } from './nix.js';

export const DEMO_CACHE = join(REPOSITORY, '.cache/demo');
/** Guest images by architecture, and the programs that run them. */
export const IMAGES = join(REPOSITORY, '.cache/images');
export const QEMU_DIR = join(REPOSITORY, '.cache/qemu/bin');

/**
 * Requirements of tests besides Node and the npm packages. `scripts/test-needs.mjs` reads the words from the
 * test files, so they must be literals there; `scripts/setup.sh` and `scripts/test-inputs.sh` install what
 * belongs to each.
 */
type Requirement =
  | 'root'
  | 'dist'
  | 'nix'
  | 'modern-nix'
  | 'demo-packages'
  | 'vms'
  | 'nixos-units'
  | 'emulation'
  | 'systemd'
  | 'busybox'
  | 'memory-cgroup'
  | 'slirp4netns'
  | 'ip'
  | 'loop'
  | 'ssh'
  | 'sshd'
  | 'e2fsprogs'
  | 'jq'
  | 'minisign'
  | 'procps'
  | 'prometheus'
  | 'chromium'
  | 'vz-helper';

const NOT_FETCHED = '`npm test` fetches it, into .cache';

/** Why a requirement is not met; undefined where it is. */
const UNMET: Readonly<Record<Requirement, () => string | undefined>> = {
  root: () => unless(process.getuid?.() === 0, 'guests are mounts and namespaces, which only root can make'),
  dist: () =>
    unless(existsSync(join(REPOSITORY, 'dist/drover-connect')), 'Drover is not built: npm run build'),
  nix: () =>
    unless(hasProgram('nix-daemon', NIX_DIRS.debian) && hasProgram('nsenter'), 'nix-bin is not installed'),
  'modern-nix': () => unless(existsSync(join(NIX_DIRS.modern, 'nix-daemon')), NOT_FETCHED),
  'demo-packages': () => unless(existsSync(join(DEMO_CACHE, 'manifest.json')), NOT_FETCHED),
  vms: () =>
    unless(
      existsSync(join(IMAGES, 'x86_64-emulating/manifest.json')) && existsSync(join(QEMU_DIR, 'virtiofsd')),
      NOT_FETCHED,
    ),
  'nixos-units': () => unless(existsSync(join(REPOSITORY, '.cache/systemd')), NOT_FETCHED),
  emulation: () =>
    unless(
      existsSync('/usr/lib/binfmt.d/qemu-aarch64.conf') && kernelHas('binfmt_misc'),
      'qemu-user-static is not installed, or the kernel has no binfmt_misc',
    ),
  systemd: () =>
    unless(
      hasProgram('systemd-analyze') && kernelHas('cgroup2'),
      'systemd is not installed, or the kernel has no cgroup2',
    ),
  'memory-cgroup': () => unless(kernelHas('cgroup') || kernelHas('cgroup2'), 'the kernel has no cgroups'),
  loop: () => unless(existsSync('/dev/loop-control'), 'the kernel has no loop devices'),
  ip: () => unless(hasProgram('ip'), 'iproute2 is not installed'),
  slirp4netns: () => unless(hasProgram('slirp4netns'), 'slirp4netns is not installed'),
  ssh: () => unless(hasProgram('ssh') && hasProgram('ssh-keygen'), 'openssh-client is not installed'),
  sshd: () => unless(existsSync('/usr/sbin/sshd'), 'openssh-server is not installed'),
  e2fsprogs: () => unless(hasProgram('mke2fs', '/usr/sbin', '/sbin'), 'e2fsprogs is not installed'),
  busybox: () => unless(hasProgram('busybox'), 'busybox is not installed'),
  jq: () => unless(hasProgram('jq'), 'jq is not installed'),
  minisign: () => unless(hasProgram('minisign') && hasProgram('curl'), 'minisign is not installed'),
  procps: () => unless(hasProgram('pgrep'), 'procps is not installed'),
  prometheus: () => unless(hasProgram('promtool'), 'prometheus is not installed'),
  chromium: () => unless(hasProgram('chromium'), 'chromium is not installed'),
  'vz-helper': () =>
    unless(
      hasProgram('clang-14') &&
        existsSync('/usr/include/GNUstep') &&
        existsSync(join(REPOSITORY, '.cache/darwin-headers')),
      `clang-14, GNUstep or Darwin's headers are missing: ${NOT_FETCHED}`,
    ),
};

/** Requirements that some CI machines cannot meet: tests that name them are skipped there, too. */
const OPTIONAL: ReadonlySet<Requirement> = new Set(['emulation', 'memory-cgroup', 'loop']);

/** All that `npm run test:fast` looks for, whatever is installed. */
const FAST: ReadonlySet<Requirement> = new Set(['dist']);

function whyUnmet(need: Requirement): string | undefined {
  const isFast = process.env['DROVER_TEST_FAST'] === '1';
  return isFast && !FAST.has(need) ? 'left to `npm test`' : UNMET[need]();
}

function unless(isMet: boolean, reason: string): string | undefined {
  return isMet ? undefined : reason;
}

/** @param directories where to look, before PATH */
function hasProgram(name: string, ...directories: readonly string[]): boolean {
  return [...directories, ...(process.env['PATH'] ?? '').split(':')].some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function kernelHas(fileSystem: string): boolean {
  return readFileSync('/proc/filesystems', 'utf8').split(/\s/).includes(fileSystem);
}

/** Tests with real guests. */
export function describeE2e(name: string, needs: readonly Requirement[], tests: () => void): void {
  describeWith(name, ['root', 'dist', 'nix', 'ssh', 'procps', ...needs], tests);
}

/**
 * Tests that not every machine can run. If a requirement is missing they are skipped, and the name says why;
 * with `CI` set they fail instead, so that no run there passes without having tested anything.
 */
export function describeWith(name: string, needs: readonly Requirement[], tests: () => void): void {
  const unmet = needs.map((need) => ({ need, why: whyUnmet(need) })).find(({ why }) => why !== undefined);
  const inCi = !['', undefined].includes(process.env['CI']);
  if (unmet === undefined) {
    describe(name, tests);
  } else if (!inCi || OPTIONAL.has(unmet.need)) {
    // Jest does not print the names of a file's tests when all of them are skipped.
    process.stderr.write(`drover: skipped: ${name}: ${unmet.why ?? ''}\n`);
    describe.skip(`${name} (skipped: ${unmet.why ?? ''})`, tests);
  } else {
    test(name, () => {
      throw new Error(`cannot be tested here: ${unmet.why ?? ''}`);
    });
  }
}
