import { lstat, readlink } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';

import { watch, type FSWatcher } from 'chokidar';

import { Mutex } from '../lib/mutex.js';

/** Changes within this time count as one, in milliseconds: editors and activation scripts make several. */
const SETTLE_MS = 200;

/** As many links as the kernel follows. */
const MAX_LINKS = 40;

/** Its entries never change, and are too many to watch. */
const IMMUTABLE = '/nix/store';

/**
 * Calls `onChange` when the file may have changed. It watches directories, not the file: editors replace the file, and
 * Nix swaps a symbolic link, the file itself (NixOS) or a directory on the way to it (`/etc/static` on nix-darwin).
 * @param onFailure gets the reason if changes may go unnoticed: the kernel bounds what a user may watch
 * @returns a function that stops watching
 */
export async function watchConfig(
  file: string,
  onChange: () => void,
  onFailure: (error: unknown) => void,
): Promise<() => Promise<void>> {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  // One watcher replaces the other: two renewals at once would leave one open.
  const mutex = new Mutex();
  const changed = (): void => {
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(() => void mutex.run(renew), SETTLE_MS);
  };
  const watchNow = async (): Promise<FSWatcher> =>
    await watchPlaces(await placesOn(resolve(file)), changed, onFailure);
  let watcher = await watchNow();
  /**
   * The links may lead elsewhere now. `onChange` comes after the new watcher is up, so it reads every change before
   * that.
   */
  const renew = async (): Promise<void> => {
    const next = await watchNow();
    await watcher.close();
    watcher = next;
    if (!stopped) onChange();
  };
  return async () => {
    stopped = true;
    clearTimeout(timer);
    await mutex.run(() => watcher.close());
  };
}

/** A name in a directory that has no links in its path. */
interface Place {
  readonly directory: string;
  readonly name: string;
}

/** Settles when the watcher is up. */
async function watchPlaces(
  places: readonly Place[],
  onChange: () => void,
  onFailure: (error: unknown) => void,
): Promise<FSWatcher> {
  const directories = new Set(places.map(({ directory }) => directory));
  const paths = new Set(places.map(({ directory, name }) => join(directory, name)));
  const watcher = watch([...directories], {
    depth: 0,
    ignoreInitial: true,
    followSymlinks: false,
    ignored: (path) => !directories.has(path) && !paths.has(path),
  });
  watcher.on('error', onFailure);
  await new Promise<void>((ready) => watcher.once('ready', ready));
  watcher.on('all', (_event, path) => {
    if (paths.has(path)) onChange();
  });
  return watcher;
}

/** On macOS, watching the root reports every change on the whole disk, and `/etc` is a link in it. */
function isUnwatched(directory: string): boolean {
  return directory === '/' || directory === IMMUTABLE || directory.startsWith(`${IMMUTABLE}/`);
}

/** Directories that `watchConfig` watches for a file. */
export async function watchedDirectories(file: string): Promise<readonly string[]> {
  return (await placesOn(resolve(file))).map(({ directory }) => directory);
}

/** The places where a change can make `path` another file: each link on the way, and its end or first missing part. */
async function placesOn(path: string): Promise<Place[]> {
  const places: Place[] = [];
  let directory = '/';
  const rest = path.split('/');
  for (let links = 0; rest.length > 0;) {
    const name = rest.shift() ?? '';
    const here = join(directory, name);
    const isMissing = await lstat(here).then(
      () => false,
      () => true,
    );
    const target = await readlink(here).catch(() => undefined);
    if (target === undefined && !isMissing && rest.length > 0) {
      directory = here;
      continue;
    }
    if (!isUnwatched(directory)) places.push({ directory, name });
    if (target === undefined || ++links > MAX_LINKS) break;
    if (isAbsolute(target)) directory = '/';
    rest.unshift(...target.split('/'));
  }
  return places;
}
