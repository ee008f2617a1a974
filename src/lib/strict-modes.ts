import { lstat, readlink } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Stats } from 'node:fs';

import { errorCode } from './errors.js';

/** As many symbolic links as Linux follows in one path. */
const MAX_LINKS = 40;
const STICKY = 0o1000;
const OTHERS_WRITE = 0o002;
const GROUP_WRITES = 0o020;

/**
 * Reports why users other than root and this one could replace `path` or its contents, by the rules of sshd's
 * StrictModes: the file and each directory above it, with links resolved, must belong to root or this user,
 * and no group and no other user may write them. Beyond sshd, a sticky directory such as `/tmp` may be
 * writable if it belongs to root: only the owner of an entry can replace it there. A part that does not exist
 * yet is not a fault.
 * @param path absolute
 * @param groupMayWrite as the log daemon's may in `/var/log` of some systems
 * @returns undefined if all is well
 */
export async function strictModesFault(
  path: string,
  { groupMayWrite = false } = {},
): Promise<string | undefined> {
  const trusted = new Set([0, process.getuid?.() ?? 0]);
  const rest = parts(path);
  let links = 0;
  let here = '/';
  const forbidden = groupMayWrite ? OTHERS_WRITE : OTHERS_WRITE | GROUP_WRITES;
  const root = fault(here, await lstat(here), trusted, forbidden);
  if (root !== undefined) return root;
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    if (part === '..') {
      here = dirname(here);
      continue;
    }
    const next = resolve(here, part);
    let found: Stats;
    try {
      found = await lstat(next);
    } catch (error) {
      // The next user of the path reports it. A parent that cannot be searched cannot be judged.
      if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return undefined;
      throw error;
    }
    const wrong = fault(next, found, trusted, forbidden);
    if (wrong !== undefined) return wrong;
    if (found.isSymbolicLink()) {
      if (++links > MAX_LINKS) return undefined;
      const target = await readlink(next);
      if (target.startsWith('/')) here = '/';
      rest.unshift(...parts(target));
    } else here = next;
  }
  return undefined;
}

function fault(
  path: string,
  found: Stats,
  trusted: ReadonlySet<number>,
  forbidden: number,
): string | undefined {
  if (!trusted.has(found.uid)) return `${path} belongs to another user (uid ${found.uid})`;
  // A link's own mode means nothing, and writing to /dev/null does not change it.
  if (found.isSymbolicLink() || found.isCharacterDevice() || (found.mode & forbidden) === 0) return undefined;
  if (found.isDirectory() && (found.mode & STICKY) !== 0) return undefined;
  return `other users can write ${path} (mode 0${(found.mode & 0o7777).toString(8)})`;
}

function parts(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
