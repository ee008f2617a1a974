import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { ownedPathsFile, runName } from './host.js';
import { runProgram } from './process.js';

const STORE_DIR = '/nix/store';

/** Deletes the benchmark's paths from the host's store, and no others. */
export async function deleteOwnPaths(dir: string, nix: string, keep: readonly string[] = []): Promise<void> {
  const file = ownedPathsFile(dir);
  const listed = await readFile(file, 'utf8').catch(() => '');
  const inputs = (await readdir(STORE_DIR)).filter((name) => name.endsWith(`MB-${runName(dir)}`));
  const owned = [...new Set([...listed.split('\n'), ...inputs.map((name) => join(STORE_DIR, name))])].filter(
    (path) => path.includes('-drover-bench-') && !keep.includes(path),
  );
  const paths = owned.filter((path) => existsSync(path));
  const env = { PATH: process.env['PATH'], NIX_CONF_DIR: join(dir, 'host'), HOME: join(dir, 'home') };
  if (paths.length > 0) await runProgram(join(nix, 'nix-store'), ['--delete', ...paths], env);
  // A build that was interrupted leaves its lock.
  for (const path of owned) await rm(`${path}.lock`, { force: true });
  await rm(file, { force: true });
}
