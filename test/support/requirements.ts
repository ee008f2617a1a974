import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, test } from '@jest/globals';

import { REPOSITORY } from './drover.js';
import { NIX_DIRS } from './nix.js';

export const DEMO_CACHE = join(REPOSITORY, '.cache/demo');
/** Guest images by architecture, and the programs that run them. */
export const IMAGES = join(REPOSITORY, '.cache/images');
export const QEMU_DIR = join(REPOSITORY, '.cache/qemu/bin');

type Requirement = 'root' | 'VMs' | 'modern Nix' | 'demo packages' | 'emulation' | 'systemd';

const UNMET: Readonly<Record<Requirement, () => string | undefined>> = {
  root: () =>
    process.getuid?.() === 0 ? undefined : 'real guests are mounts and namespaces, which need root',
  'modern Nix': () =>
    existsSync(join(NIX_DIRS.modern, 'nix-daemon')) ? undefined : 'scripts/test-inputs.sh has not been run',
  'demo packages': () =>
    existsSync(join(DEMO_CACHE, 'manifest.json')) ? undefined : 'scripts/test-inputs.sh has not been run',
  VMs: () =>
    existsSync(join(IMAGES, 'x86_64-emulating/manifest.json')) && existsSync(join(QEMU_DIR, 'virtiofsd'))
      ? undefined
      : 'scripts/test-inputs.sh has not been run',
  emulation: () =>
    existsSync('/usr/lib/binfmt.d/qemu-aarch64.conf') && kernelHas('binfmt_misc')
      ? undefined
      : 'it takes qemu-user-static, and a kernel with binfmt_misc',
  systemd: () =>
    existsSync('/usr/bin/systemd-analyze') && kernelHas('cgroup2')
      ? undefined
      : 'it takes systemd (on Debian: apt-get install systemd), and a kernel with cgroup2',
};

/** What not every machine can have, so that even in CI tests may be left out for the want of it. */
const OPTIONAL: ReadonlySet<Requirement> = new Set(['emulation']);

function kernelHas(fileSystem: string): boolean {
  return readFileSync('/proc/filesystems', 'utf8').split(/\s/).includes(fileSystem);
}

/** Tests with real guests. */
export function describeE2e(name: string, needs: readonly Requirement[], tests: () => void): void {
  describeWith(name, ['root', ...needs], tests);
}

/**
 * Tests that need what not every machine has. Where it is missing they are skipped, and the name says why; where `CI`
 * is set they fail, so that no run there is green for having tested nothing.
 */
export function describeWith(name: string, needs: readonly Requirement[], tests: () => void): void {
  const unmet = needs.map((need) => ({ need, why: UNMET[need]() })).find(({ why }) => why !== undefined);
  const inCi = !['', undefined].includes(process.env['CI']);
  if (unmet === undefined) {
    describe(name, tests);
  } else if (!inCi || OPTIONAL.has(unmet.need)) {
    // Jest does not print the names of tests where all of a file's are skipped.
    process.stderr.write(`drover: skipped: ${name}: ${unmet.why ?? ''}\n`);
    describe.skip(`${name} (skipped: ${unmet.why ?? ''})`, tests);
  } else {
    test(name, () => {
      throw new Error(`cannot be tested here: ${unmet.why ?? ''}`);
    });
  }
}
