import { DroverError } from '../lib/errors.js';
import type { DoctorContext } from './check.js';

const EXPERIMENTAL = ['--extra-experimental-features', 'nix-command'];

/**
 * Nix's effective settings of the user whose home is `home`.
 * @throws DroverError `NIX_UNUSABLE`
 */
export async function nixSettings(
  { run, env }: DoctorContext,
  home: string,
): Promise<ReadonlyMap<string, unknown>> {
  const options = { env: { ...env, HOME: home, XDG_CONFIG_HOME: undefined } };
  // Nix 2.20 renamed `show-config`.
  for (const verb of [['config', 'show'], ['show-config']]) {
    const { exitCode, stdout } = await run('nix', [...EXPERIMENTAL, ...verb, '--json'], options);
    if (exitCode !== 0) continue;
    const settings = JSON.parse(stdout) as Record<string, { value?: unknown } | undefined>;
    return new Map(Object.entries(settings).map(([name, setting]) => [name, setting?.value]));
  }
  throw new DroverError('NIX_UNUSABLE', 'nix cannot show its settings', {
    hint: 'Run nix config show, and mend what it reports.',
  });
}
