import { readdir, stat, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';

import { withHostStore } from '../../host-store/host-store.js';
import { count, humanBytes } from '../../lib/human.js';
import type { StorePath } from '../../protocol/store-path.js';
import { failure, ok, skipped, warning, type Check } from '../check.js';
import { nixSettings } from '../nix-settings.js';

/** Less free space than this makes builds fail soon, in bytes. */
const LOW_SPACE_BYTES = 5 * 1024 ** 3;
/** Lock files that were last used before this time belong to no build that goes on, in milliseconds. */
const STALE_LOCK_MS = 24 * 3_600_000;
const MAX_NAMED_FILES = 3;

const space: Check = {
  id: 'store-space',
  title: 'There is room for outputs',
  run: async ({ storeDir }) => {
    const { bavail, bsize } = await statfs(storeDir);
    const free = bavail * bsize;
    const seen = `${humanBytes(free)} free at ${storeDir}`;
    return free < LOW_SPACE_BYTES
      ? warning(seen, 'Free some space, for example with nix store gc.')
      : ok(seen);
  },
};

const caseSensitive: Check = {
  id: 'store-case',
  title: 'The store tells upper from lower case',
  run: async ({ storeDir }) => {
    const [name] = (await readdir(storeDir)).filter((entry) => /[a-z]/.test(entry));
    if (name === undefined) return skipped('the store is empty');
    const shouted = await stat(join(storeDir, name.toUpperCase())).catch(() => undefined);
    return shouted === undefined
      ? ok('case-sensitive')
      : warning(
          `${storeDir} ignores case`,
          'Keep guest.store: exact, which shows guests the true names, or move /nix to a case-sensitive volume.',
        );
  },
};

const optimise: Check = {
  id: 'auto-optimise-store',
  title: 'Files of the store are not replaced while guests read them',
  run: async (context) => {
    if (context.platform !== 'darwin') return skipped('matters on macOS only');
    const value = (await nixSettings(context, context.home)).get('auto-optimise-store');
    return value === true
      ? warning('auto-optimise-store is on', 'Turn it off: hard links confuse the shared store of a Mac.')
      : ok('auto-optimise-store is off');
  },
};

const locks: Check = {
  id: 'stale-locks',
  title: 'No lock files are left in the store',
  run: async ({ storeDir, uid }) => {
    const names = (await readdir(storeDir)).filter((name) => name.endsWith('.lock'));
    const stale: string[] = [];
    for (const name of names) {
      const found = await stat(join(storeDir, name)).catch(() => undefined);
      const isLock = found?.isFile() === true && found.size === 0 && (found.mode & 0o777) === 0o600;
      if (isLock && found.mtimeMs < Date.now() - STALE_LOCK_MS) stale.push(name);
    }
    if (stale.length === 0) return ok(`${count(names.length, 'lock file')}, none of them old`);
    const finding = warning(
      `${count(stale.length, 'old lock file')}: ${stale.slice(0, MAX_NAMED_FILES).join(', ')}${stale.length > MAX_NAMED_FILES ? ' …' : ''}`,
      'Remove them while nothing builds.',
    );
    if (uid !== 0) return finding;
    return {
      ...finding,
      repair: async () => {
        for (const name of stale) await unlink(join(storeDir, name));
      },
    };
  },
};

const registration: Check = {
  id: 'registration',
  title: 'Paths of the store can be pinned and looked up',
  run: async ({ storeDir, env }) => {
    return await withHostStore(env, async (connection) => {
      const names = (await readdir(storeDir)).filter((name) => /^[0-9a-z]{32}-[^.]+$/.test(name));
      const paths = names.slice(0, 20).map((name) => join(storeDir, name) as StorePath);
      const [valid] = await connection.queryValidPaths(paths);
      if (valid === undefined) return skipped('the store has no valid path yet');
      await connection.addTempRoots([valid]);
      const [info] = await connection.queryPathInfos([valid]);
      return info === undefined
        ? failure(`nix-daemon has no path info of ${valid}`, 'Run nix-store --verify.')
        : ok(`${valid}: ${count(info.references.length, 'reference')}, ${humanBytes(info.narSize)}`);
    });
  },
};

export const STORE_CHECKS: readonly Check[] = [space, caseSensitive, optimise, locks, registration];
