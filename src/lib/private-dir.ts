import { chmod, mkdir, readdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

import { DroverError, errorCode, errorMessage } from './errors.js';

/** In words, why a directory can be neither made nor entered. */
const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EEXIST: 'there is a file in its place',
  ELOOP: 'its links go round in circles',
  ENOENT: 'a part of its path is not there',
  ENOTDIR: 'a part of its path is no directory',
  EPERM: 'the system does not allow it',
  EROFS: 'its file system is read-only',
};

/**
 * Makes `path`, parents included, as a directory that only this user can enter (mode 0700). A directory of Drover's
 * own that exists already is closed to others.
 * @param hint what to do where that is not possible
 * @throws DroverError `DIRECTORY_UNUSABLE`, `NOT_PERMITTED`
 */
export async function makePrivateDir(path: string, hint?: string): Promise<void> {
  try {
    await makeDirs(path);
    await chmod(path, 0o700);
  } catch (cause) {
    throw unusable(path, cause, hint);
  }
}

/**
 * Makes `path` private as `makePrivateDir` does, unless that would take it from others: `/tmp` as a state directory by
 * mistake, or a directory whose owner could put other programs into guests.
 * @param entries what Drover itself puts there
 * @throws DroverError `DIRECTORY_NOT_PRIVATE`, `DIRECTORY_UNUSABLE`, `NOT_PERMITTED`
 */
export async function makeOwnDir(path: string, entries: readonly string[], hint: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() === true && process.getuid?.() === 0 && found.uid !== 0) {
    throw new DroverError(
      'DIRECTORY_NOT_PRIVATE',
      `The directory ${path} belongs to another user (${found.uid})`,
      {
        hint,
      },
    );
  }
  if (found?.isDirectory() === true && (found.mode & 0o077) !== 0) {
    const foreign = (await listDirectory(path)).find((name) => !entries.includes(name));
    if (foreign !== undefined) {
      throw new DroverError(
        'DIRECTORY_NOT_PRIVATE',
        `The directory ${path} holds other things than Drover's (${JSON.stringify(foreign)}), and other users can enter it`,
        { hint: `Choose a directory for Drover alone as stateDir, or close this one: chmod 700 ${path}` },
      );
    }
  }
  await makePrivateDir(path, hint);
}

/**
 * Makes `path` if it does not exist; otherwise checks that nobody but this user can enter it. For directories
 * that may be somebody else's, such as `/tmp`: their modes are not Drover's to change.
 * @throws DroverError `DIRECTORY_NOT_PRIVATE`, `DIRECTORY_UNUSABLE`, `NOT_PERMITTED`
 */
export async function requirePrivateDir(path: string, hint: string): Promise<void> {
  try {
    await makeDirs(path);
  } catch (cause) {
    throw unusable(path, cause, hint);
  }
  const { mode, uid } = await stat(path);
  if ((mode & 0o077) === 0 && uid === process.getuid?.()) return;
  throw new DroverError(
    'DIRECTORY_NOT_PRIVATE',
    `Other users can enter ${path} (mode 0${(mode & 0o7777).toString(8)}, owner ${uid})`,
    { hint },
  );
}

/** Not Node's `recursive`: that never ends where a directory cannot be made although its parent is there, as in /proc. */
async function makeDirs(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (errorCode(error) === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (errorCode(error) !== 'ENOENT' || dirname(path) === path) throw error;
    await makeDirs(dirname(path));
    await mkdir(path, { mode: 0o700 });
  }
}

function unusable(path: string, cause: unknown, hint: string | undefined): unknown {
  const code = errorCode(cause) ?? '';
  if (code === 'ENOSPC') return cause;
  return new DroverError(
    code === 'EACCES' || code === 'EPERM' ? 'NOT_PERMITTED' : 'DIRECTORY_UNUSABLE',
    `The directory ${path} cannot be used: ${REASONS[code] ?? errorMessage(cause)}`,
    { hint },
  );
}

/** The names in a directory, sorted; none where there is no such directory. */
export async function listDirectory(path: string): Promise<string[]> {
  return (await readdir(path).catch(() => [])).sort();
}
