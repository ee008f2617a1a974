import { readdir } from 'node:fs/promises';

import { DroverError, errorCode } from '../lib/errors.js';

/**
 * On a file system that ignores case, Nix tells names that differ in nothing else apart by this suffix and a number
 * (`caseHackSuffix` in Nix's archive.cc). A guest that reads such a path through the shared store sees the wrong names.
 */
const SUFFIX = '~nix~case~hack~';

/** Answers to remember: store paths are immutable, so each is walked once. */
const MAX_REMEMBERED = 200_000;

/** Finds store paths whose file names are not the true ones, and which must therefore be copied, not shared. */
export class CaseHackDetector {
  readonly #known = new Map<string, Promise<boolean>>();

  /**
   * Whether any name below `path` carries the suffix. A path that is not there has none: whether the guest sees it is
   * checked when it is registered.
   * @throws DroverError `PROVISION_FAILED` when the path cannot be read
   */
  async affects(path: string): Promise<boolean> {
    let answer = this.#known.get(path);
    if (answer === undefined) {
      answer = hasSuffix(path);
      if (this.#known.size >= MAX_REMEMBERED) this.#known.clear();
      this.#known.set(path, answer);
      // What cannot be read now may be readable later.
      answer.catch(() => this.#known.delete(path));
    }
    try {
      return await answer;
    } catch (cause) {
      throw new DroverError('PROVISION_FAILED', `${path} cannot be read on the host`, {
        cause,
        hint: HINT_DAMAGED,
        context: { path },
      });
    }
  }
}

/** What to do about a store path that is not as Nix made it. */
export const HINT_DAMAGED =
  'Check the path with: nix-store --verify-path. If it is damaged: nix-store --repair-path.';

async function hasSuffix(directory: string): Promise<boolean> {
  let entries;
  try {
    entries = await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (errorCode(error) === 'ENOTDIR' || errorCode(error) === 'ENOENT') return false;
    throw error;
  }
  if (entries.some((entry) => entry.name.includes(SUFFIX))) return true;
  for (const entry of entries) {
    if (entry.isDirectory() && (await hasSuffix(`${directory}/${entry.name}`))) return true;
  }
  return false;
}
