import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { execa } from 'execa';

import { REPOSITORY } from './drover.js';
import { NIX_DIRS, type NixVersion } from './nix.js';

const NOT_OURS = new Set(['node_modules', 'dist', 'dist.new', 'dist.old', 'coverage']);

/** Every Nix file of the repository, as paths relative to it. */
export async function nixFiles(): Promise<readonly string[]> {
  const top = await readdir(REPOSITORY, { withFileTypes: true });
  const folders = top.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'));
  const files = top.filter((entry) => entry.isFile()).map(({ name }) => name);
  for (const { name } of folders.filter(({ name }) => !NOT_OURS.has(name))) {
    for (const path of await readdir(join(REPOSITORY, name), { recursive: true }))
      files.push(join(name, path));
  }
  return files.filter((file) => file.endsWith('.nix')).sort();
}

/** Folder of nixpkgs' own lib, to be used in place of test/nix/lib: see docs/verifying.md. */
export const NIXPKGS_LIB = process.env['DROVER_NIXPKGS_LIB'] ?? '';

/** Runs nix-instantiate in the repository, without a store, without a network and with no configuration. */
export async function nixInstantiate(
  version: NixVersion,
  args: readonly string[],
): Promise<{ readonly exitCode: number; readonly stdout: string; readonly stderr: string }> {
  // nixpkgs' lib does not evaluate with Debian's Nix, which is too old.
  const program = join(NIX_DIRS[NIXPKGS_LIB === '' ? version : 'modern'], 'nix-instantiate');
  const result = await execa(program, args, {
    cwd: REPOSITORY,
    reject: false,
    env: {
      HOME: '/nonexistent',
      NIX_CONF_DIR: '/nonexistent',
      NIX_CONFIG: 'build-users-group =',
      NIX_PATH: '',
      NIX_REMOTE: 'dummy://',
      DROVER_NIXPKGS_LIB: NIXPKGS_LIB,
    },
    extendEnv: false,
  });
  return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr };
}

/**
 * The value of a Nix expression, which can name files relative to the repository.
 * @throws Error with what Nix says, if it has none
 */
export async function evaluate(version: NixVersion, expression: string): Promise<unknown> {
  const { exitCode, stdout, stderr } = await nixInstantiate(version, [
    '--eval',
    '--strict',
    '--json',
    '-E',
    expression,
  ]);
  if (exitCode !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as unknown;
}
