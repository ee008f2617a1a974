import { readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { DroverError, errorCode } from '../lib/errors.js';
import { makePrivateDir } from '../lib/private-dir.js';
import type { ValidPathInfo } from '../protocol/path-info.js';
import { HINT_DAMAGED } from './case-hack.js';
import { listPath } from './listing.js';

/** Listings to keep. Beyond that, the ones that were made first are removed. */
const MAX_KEPT = 20_000;

/** Listings of the host's store paths, for guests whose store shows listed paths only. */
export interface Listings {
  /**
   * The listings of these paths, each after a line `path NAME`. A path that is not there is listed as an empty file:
   * the guest does not find it, and says so.
   * @throws DroverError `PROVISION_FAILED` if one cannot be read
   */
  of(infos: readonly ValidPathInfo[]): Promise<string>;
}

/** Lists each path once, and keeps the listing on disk under the hash of the path's contents. */
export class StoredListings implements Listings {
  readonly #directory: string;
  readonly #caseHack: boolean;
  #temporary = 0;

  /** @param caseHack see `listPath` */
  constructor(directory: string, caseHack: boolean) {
    this.#directory = directory;
    this.#caseHack = caseHack;
  }

  async of(infos: readonly ValidPathInfo[]): Promise<string> {
    const texts: string[] = [];
    for (const { path, narHash } of infos) {
      texts.push(`path ${path.slice(path.lastIndexOf('/') + 1)}\n`, await this.#listing(path, narHash));
    }
    return texts.join('');
  }

  /** Removes the oldest listings if there are too many. */
  async prune(): Promise<void> {
    await makePrivateDir(this.#directory);
    const names = await readdir(this.#directory);
    if (names.length <= MAX_KEPT) return;
    const files = await Promise.all(
      names.map(async (name) => {
        const path = join(this.#directory, name);
        return { path, made: (await stat(path)).mtimeMs };
      }),
    );
    files.sort((a, b) => b.made - a.made);
    for (const { path } of files.slice(MAX_KEPT)) await rm(path, { force: true });
  }

  async #listing(path: string, narHash: string): Promise<string> {
    const file = join(this.#directory, `${narHash}${this.#caseHack ? '' : '-literal'}`);
    try {
      return await readFile(file, 'latin1');
    } catch {
      // Listed below.
    }
    let text;
    try {
      text = await listPath(path, this.#caseHack);
    } catch (cause) {
      if (errorCode(cause) === 'ENOENT') return 'f 0 .\n';
      throw new DroverError('PROVISION_FAILED', `${path} cannot be read on the host`, {
        cause,
        hint: HINT_DAMAGED,
        context: { path },
      });
    }
    await this.#keep(file, text);
    return text;
  }

  /** A disk that is full costs time, not builds. */
  async #keep(file: string, text: string): Promise<void> {
    this.#temporary += 1;
    const temporary = `${file}.${this.#temporary}`;
    try {
      await writeFile(temporary, text, { mode: 0o600, encoding: 'latin1' });
      await rename(temporary, file);
    } catch {
      await rm(temporary, { force: true }).catch(() => undefined);
    }
  }
}
