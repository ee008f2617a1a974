import { text } from 'node:stream/consumers';
import { once } from 'node:events';

import { z } from 'zod';

import { DroverError, errorCode } from '../lib/errors.js';
import { run, startProgram } from '../lib/process.js';

/** Configurations that an error names. */
const MAX_LISTED = 20;
const NIX_OPTIONS = ['--extra-experimental-features', 'nix-command flakes'];

/** A NixOS configuration, as arguments of `nix build` and `nix eval`. */
export interface Configuration {
  /** For people. */
  readonly name: string;
  readonly options: readonly string[];
  /** Its `config.system.build`. */
  readonly build: string;
  /** Advice if it cannot be built. */
  readonly hint: string;
}

const SEE_ABOVE = 'See what Nix says above.';
/** Names that need no quotes in an installable. */
const PLAIN_NAME = /^[\w'.-]+$/;

/**
 * Reads `FLAKE#NAME`.
 * @returns undefined for what is not of that form
 * @throws DroverError `NAME_UNUSABLE`
 */
export function parseInstallable(given: string): Configuration | undefined {
  const [flake = '', ...rest] = given.split('#');
  if (rest.length === 0) return undefined;
  const name = rest.join('#');
  if (PLAIN_NAME.test(name)) return ofFlake(flake === '' ? '.' : flake, name);
  throw new DroverError('NAME_UNUSABLE', `${JSON.stringify(name)} is not the name of a configuration`, {
    hint: 'Name one of nixosConfigurations, as in .#NAME.',
  });
}

function ofFlake(flake: string, name: string): Configuration {
  const build = `${flake}#nixosConfigurations."${name}".config.system.build`;
  return { name: `${flake}#${name}`, options: [], build, hint: SEE_ABOVE };
}

/**
 * Finds the configuration of a flake that is named without one: `default`, or the only one.
 * @throws DroverError `VM_REFUSED`
 */
export async function configurationOf(flake: string, env: NodeJS.ProcessEnv): Promise<Configuration> {
  const question = ['eval', '--json', '--apply', 'builtins.attrNames', '--', `${flake}#nixosConfigurations`];
  const { exitCode, printed } = await nix(question, env);
  const all = exitCode === 0 ? z.array(z.string()).parse(JSON.parse(printed)) : [];
  const names = all.filter((each) => PLAIN_NAME.test(each));
  const name = names.length === 1 ? names[0] : names.find((each) => each === 'default');
  if (name !== undefined) return ofFlake(flake, name);
  if (names.length === 0) {
    const hint = exitCode === 0 ? 'Add a NixOS configuration to it.' : SEE_ABOVE;
    throw new DroverError('VM_REFUSED', `${flake} has no nixosConfigurations`, { hint });
  }
  throw new DroverError('VM_REFUSED', `${flake} has several configurations, and none is called default`, {
    hint: `Name one as FLAKE#NAME: ${names.slice(0, MAX_LISTED).join(', ')}.`,
  });
}

/** A file such as configuration.nix, with the nixpkgs of NIX_PATH. */
export function configurationFile(path: string): Configuration {
  const system = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux`;
  const expression = '{ configuration, system }: import <nixpkgs/nixos> { inherit configuration system; }';
  return {
    name: path,
    options: [
      ...['--impure', '--expr', expression],
      ...['--argstr', 'configuration', path, '--argstr', 'system', system],
    ],
    build: 'config.system.build',
    hint: `${SEE_ABOVE} A file is built with the nixpkgs of NIX_PATH.`,
  };
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
  const { options, build } = configuration;
  const others = ['--builders', `${builders} ; @/etc/nix/machines`];
  const { exitCode, printed } = await nix(
    ['build', '--no-link', '--print-out-paths', ...others, ...options, '--', `${build}.droverImage`],
    env,
  );
  const [path = ''] = printed.split('\n');
  if (exitCode === 0 && path !== '') return path;
  throw await failureOf(configuration, env);
}

/** Runs Nix, which speaks to the user on standard error. */
async function nix(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ readonly exitCode: number | null; readonly printed: string }> {
  const child = await startProgram('nix', [...NIX_OPTIONS, ...args], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (child.stdout === null) throw new TypeError('not started with a pipe');
  const [printed] = await Promise.all([text(child.stdout), once(child, 'close')]);
  return { exitCode: child.exitCode, printed };
}

/** Nix has said what it is about, unless it is this. */
async function failureOf(
  { name, options, build, hint }: Configuration,
  env: NodeJS.ProcessEnv,
): Promise<DroverError> {
  const apply = ['--apply', 'build: build ? droverImage'];
  const question = [...NIX_OPTIONS, 'eval', '--json', ...apply, ...options, '--', build];
  const answer = await run('nix', question, { env }).catch((error: unknown) => {
    if (errorCode(error) === 'PROGRAM_FAILED') return undefined;
    throw error;
  });
  if (answer?.stdout.trim() === 'false')
    return new DroverError(
      'VM_REFUSED',
      `${name} is not a NixOS system that imports nixosModules.guest: it has no system.build.droverImage`,
      { hint: "Add nixosModules.guest of Drover's flake to its modules." },
    );
  return new DroverError('VM_REFUSED', `${name} could not be built`, { hint });
}
