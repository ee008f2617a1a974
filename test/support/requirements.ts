import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { describe, test } from '@jest/globals';

import { REPOSITORY } from './drover.js';
import { NIX_DIRS } from './nix.js';

export const DEMO_CACHE = join(REPOSITORY, '.cache/demo');

type Requirement = 'root' | 'modern Nix' | 'demo packages';

const UNMET: Readonly<Record<Requirement, () => string | undefined>> = {
  root: () =>
    process.getuid?.() === 0 ? undefined : 'real guests are mounts and namespaces, which need root',
  'modern Nix': () =>
    existsSync(join(NIX_DIRS.modern, 'nix-daemon')) ? undefined : 'scripts/test-inputs.sh has not been run',
  'demo packages': () =>
    existsSync(join(DEMO_CACHE, 'manifest.json')) ? undefined : 'scripts/test-inputs.sh has not been run',
};

/**
 * Tests with real guests. Where something that they need is missing they are skipped, and the name says why; where
 * `CI` is set they fail, so that no run there is green for having tested nothing.
 */
export function describeE2e(name: string, needs: readonly Requirement[], tests: () => void): void {
  const unmet = (['root', ...needs] as const).map((need) => UNMET[need]()).find((why) => why !== undefined);
  if (unmet === undefined) {
    describe(name, tests);
  } else if (process.env['CI'] === undefined || process.env['CI'] === '') {
    describe.skip(`${name} (skipped: ${unmet})`, tests);
  } else {
    test(name, () => {
      throw new Error(`cannot be tested here: ${unmet}`);
    });
  }
}
