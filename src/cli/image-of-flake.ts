import { text } from 'node:stream/consumers';
import { once } from 'node:events';

import { DroverError, errorCode } from '../lib/errors.js';
import { run, startProgram } from '../lib/process.js';

const NIX_OPTIONS = ['--extra-experimental-features', 'nix-command flakes'];

/** A NixOS configuration of a flake. */
interface Configuration {
  readonly flake: string;
  readonly name: string;
}

/**
 * Reads `FLAKE#NAME`.
 * @returns undefined for what is not of that form
 * @throws DroverError `NAME_UNUSABLE`
 */
export function parseInstallable(given: string): Configuration | undefined {
  const [flake = '', ...rest] = given.split('#');
  if (rest.length === 0) return undefined;
  const name = rest.join('#');
  if (/^[\w'.-]+$/.test(name)) return { flake: flake === '' ? '.' : flake, name };
  throw new DroverError('NAME_UNUSABLE', `${JSON.stringify(name)} is not the name of a configuration`, {
    hint: 'Name one of nixosConfigurations, as in .#NAME.',
  });
}

/**
 * Builds the image of a configuration. Nix shows its progress on standard error.
 * @param builders lines of Nix's machines file that it asks first
 * @returns the image's path in the store
 * @throws DroverError `VM_REFUSED`
 */
export async function buildImage(
  configuration: Configuration,
  { env, builders }: { readonly env: NodeJS.ProcessEnv; readonly builders: string },
): Promise<string> {
  const build = attributeOf(configuration);
  const others = ['--builders', `${builders} ; @/etc/nix/machines`];
  const args = [...NIX_OPTIONS, 'build', '--no-link', '--print-out-paths', ...others];
  const nix = await startProgram('nix', [...args, '--', `${build}.droverImage`], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (nix.stdout === null) throw new TypeError('not started with a pipe');
  const [printed] = await Promise.all([text(nix.stdout), once(nix, 'close')]);
  const [path = ''] = printed.split('\n');
  if (nix.exitCode === 0 && path !== '') return path;
  throw await failureOf(configuration, env);
}

function attributeOf({ flake, name }: Configuration): string {
  return `${flake}#nixosConfigurations."${name}".config.system.build`;
}

/** Nix has said what it is about, unless it is this. */
async function failureOf(configuration: Configuration, env: NodeJS.ProcessEnv): Promise<DroverError> {
  const apply = ['--apply', 'build: build ? droverImage'];
  const question = [...NIX_OPTIONS, 'eval', '--json', ...apply, '--', attributeOf(configuration)];
  const answer = await run('nix', question, { env }).catch((error: unknown) => {
    if (errorCode(error) === 'PROGRAM_FAILED') return undefined;
    throw error;
  });
  const named = `${configuration.flake}#${configuration.name}`;
  if (answer?.stdout.trim() === 'false')
    return new DroverError(
      'VM_REFUSED',
      `${named} is not a NixOS system that imports nixosModules.guest: it has no system.build.droverImage`,
      { hint: "Add nixosModules.guest of Drover's flake to its modules." },
    );
  return new DroverError('VM_REFUSED', `${named} could not be built`, {
    hint: 'See what Nix says above.',
  });
}
