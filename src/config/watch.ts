import { readlink } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';

import { watch } from 'chokidar';

/** Changes within this time are one, in milliseconds: an editor or an activation script makes several. */
const SETTLE_MS = 200;

/**
 * Calls `onChange` when the file may have changed. Directories are watched, not the file: editors replace it, and Nix
 * swaps a symbolic link, either of which leaves a watched file behind. Links on the way to the file are followed as
 * they were at the start.
 * @returns what ends the watching
 */
export async function watchConfig(file: string, onChange: () => void): Promise<() => Promise<void>> {
  const names = new Map<string, Set<string>>();
  for (const path of await linksTo(resolve(file))) {
    const siblings = names.get(dirname(path)) ?? new Set();
    names.set(dirname(path), siblings.add(basename(path)));
  }
  let timer: NodeJS.Timeout | undefined;
  const watcher = watch([...names.keys()], { depth: 0, ignoreInitial: true, followSymlinks: false });
  watcher.on('all', (_event, path) => {
    if (names.get(dirname(path))?.has(basename(path)) !== true) return;
    clearTimeout(timer);
    timer = setTimeout(onChange, SETTLE_MS);
  });
  await new Promise<void>((ready) => watcher.once('ready', ready));
  return async () => {
    clearTimeout(timer);
    await watcher.close();
  };
}

/** The path, and where each link on it leads, one after the other; at most as many as a kernel follows. */
async function linksTo(path: string): Promise<string[]> {
  const paths = [path];
  for (let at = path; paths.length < 40; paths.push(at)) {
    const target = await readlink(at).catch(() => undefined);
    if (target === undefined) break;
    at = resolve(dirname(at), target);
  }
  return paths;
}
