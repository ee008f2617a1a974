import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';

import { DroverError, errorCode } from '../lib/errors.js';

/**
 * On a file system that ignores case, Nix tells names that differ in nothing else apart by this suffix and a number
 * (`caseHackSuffix` in Nix's archive.cc). A guest that reads such a path through the shared store sees the wrong names.
 */
export const CASE_HACK_SUFFIX = '~nix~case~hack~';

/** Answers to remember: store paths are immutable, so each is walked once. */
const MAX_REMEMBERED = 200_000;

/** Directories that are read side by side: enough for the threads that node has for that. */
const DIRECTORIES_AT_ONCE = 16;

/** Decides whether a store path can be shared. */
export interface FileNames {
  /** Whether any of them carries the suffix: then the path must be copied. */
  readonly hacked: boolean;
  /** Number of files, directories and links in the path. */
  readonly files: number;
}

/** Looks at the names in store paths of the host. */
export interface NameInspector {
  /**
   * A path that is not there has no names: whether the guest sees it is checked when it is registered.
   * @throws DroverError `PROVISION_FAILED` when the path cannot be read
   */
  inspect(path: string): Promise<FileNames>;
}

/** Walks store paths on the host's disk for names with the case-hack suffix, and counts their files. */
export class CaseHackDetector implements NameInspector {
  readonly #known = new Map<string, Promise<FileNames>>();

  async inspect(path: string): Promise<FileNames> {
    let answer = this.#known.get(path);
    if (answer === undefined) {
      answer = inspect(path);
      if (this.#known.size >= MAX_REMEMBERED) this.#known.clear();
      this.#known.set(path, answer);
      // A path that cannot be read now may become readable later.
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

/** Remedy for a store path that differs from what Nix wrote. */
export const HINT_DAMAGED =
  'Check the path with: nix-store --verify-path. If it is damaged: nix-store --repair-path.';

async function inspect(path: string): Promise<FileNames> {
  const found = { hacked: false, files: 1 };
  const directories = [path];
  while (directories.length > 0) {
    // Some at a time: one by one, most of the time goes in handing them to the threads that read them.
    await Promise.all(
      directories.splice(-DIRECTORIES_AT_ONCE).map(async (directory) => {
        for (const entry of await entriesOf(directory)) {
          found.files += 1;
          found.hacked ||= entry.name.includes(CASE_HACK_SUFFIX);
          if (entry.isDirectory()) directories.push(`${directory}/${entry.name}`);
        }
      }),
    );
  }
  return found;
}

/** Empty if it is not a directory, or does not exist. */
async function entriesOf(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (errorCode(error) === 'ENOTDIR' || errorCode(error) === 'ENOENT') return [];
    throw error;
  }
}
