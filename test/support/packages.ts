import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { readChecks, runCheck } from '../../demo/checks.js';
import { REPOSITORY } from './drover.js';
import { succeeded, type NixHost } from './nix.js';
import { DEMO_CACHE } from './requirements.js';

const PACKAGES = join(REPOSITORY, 'demo/packages.nix');

/** Arguments of nix-build for real packages in C: all of them, or the smaller half. Each host builds its own. */
export async function packages(host: NixHost, attribute: 'smaller' | 'all'): Promise<string[]> {
  const cache = await realpath(DEMO_CACHE);
  return [
    PACKAGES,
    ...['--arg', 'cache', `/. + ${JSON.stringify(cache)}`, '-A', attribute],
    ...['--argstr', 'variant', host.id],
  ];
}

/** Removes what was built: its names are not of this test alone, but its paths are. */
export async function removeBuilt(host: NixHost, expression: readonly string[]): Promise<void> {
  const derivation = succeeded(await host.run('nix-instantiate', expression)).stdout.trim();
  const { stdout } = succeeded(await host.run('nix-store', ['-q', '--requisites', derivation]));
  const derivations = stdout.split('\n').filter((path) => path.endsWith('.drv'));
  const outputs = succeeded(await host.run('nix-store', ['-q', '--outputs', ...derivations])).stdout.split(
    '\n',
  );
  await host.run('nix-store', ['--delete', ...outputs.filter((path) => path !== ''), ...derivations]);
}

/** Runs what was built. @returns how many checks there were */
export async function runChecks(output: string): Promise<number> {
  const checks = await readChecks(join(REPOSITORY, 'demo/checks.json'));
  const scratch = await mkdtemp('/tmp/checks-');
  let done = 0;
  try {
    for (const check of checks) {
      const path = await realpath(join(output, check.package)).catch(() => undefined);
      if (path === undefined) continue;
      await runCheck(check, path, scratch);
      done += 1;
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return done;
}
