import { chmod, mkdir, readdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

import { DroverError, errorCode, errorMessage } from './errors.js';
import { strictModesFault } from './strict-modes.js';

/** Why a directory can be neither made nor entered. */
const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EEXIST: 'a file is in its place',
  ELOOP: 'its symbolic links form a loop',
  ENOENT: 'a part of its path does not exist',
  ENOTDIR: 'a part of its path is not a directory',
  EPERM: 'the system does not allow it',
  EROFS: 'its file system is read-only',
};

/**
 * Makes `path`, parents included, as a directory that only this user can enter (mode 0700). A directory of Drover's
 * own that exists already is closed to others.
 * @param hint advice if that is not possible
 * @throws DroverError `DIRECTORY_NOT_PRIVATE`, `DIRECTORY_UNUSABLE`, `NOT_PERMITTED`
 */
export async function makePrivateDir(path: string, hint?: string): Promise<void> {
  try {
    await makeDirs(path);
    const { uid } = await stat(path);
    // Its owner could open it to others again, and may have a process in it.
    if (uid !== 0 && uid !== process.getuid?.()) throw foreign(path, uid);
    await chmod(path, 0o700);
  } catch (cause) {
    throw unusable(path, cause, hint);
  }
}

function foreign(path: string, uid: number): DroverError {
  return new DroverError(
    'DIRECTORY_NOT_PRIVATE',
    `The directory ${path} belongs to another user (uid ${uid})`,
    { hint: 'Look at what is in it, and remove it: Drover makes a new one.' },
  );
}

/**
 * Makes `path` private as `makePrivateDir` does, unless it belongs to others: `/tmp` as a state directory by mistake,
 * or a directory whose owner could put other programs into guests.
 * @param entries names that Drover itself uses there
 * @throws DroverError `DIRECTORY_NOT_PRIVATE`, `DIRECTORY_UNUSABLE`, `NOT_PERMITTED`
 */
export async function makeOwnDir(path: string, entries: readonly string[], hint: string): Promise<void> {
  await requireStrictModes(path, hint);
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() === true && (found.mode & 0o077) !== 0) {
    const foreign = (await listDirectory(path)).find((name) => !entries.includes(name));
    if (foreign !== undefined) {
      throw new DroverError(
        'DIRECTORY_NOT_PRIVATE',
        `The directory ${path} holds files that are not Drover's (${JSON.stringify(foreign)}), and other users can enter it`,
        {
          hint: `Choose a stateDir that only Drover uses, or close this one to other users: chmod 700 ${path}`,
        },
      );
    }
  }
  await makePrivateDir(path, hint);
}

/**
 * Makes `path` if it does not exist; otherwise checks that only this user can enter it. For directories that may belong
 * to others, such as `/tmp`, whose modes Drover must not change.
 * @throws DroverError `DIRECTORY_NOT_PRIVATE`, `DIRECTORY_UNUSABLE`, `NOT_PERMITTED`
 */
export async function requirePrivateDir(path: string, hint: string): Promise<void> {
  await requireStrictModes(dirname(path), hint);
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

/** @throws DroverError `DIRECTORY_NOT_PRIVATE` if others could put another directory in the place of `path` */
async function requireStrictModes(path: string, hint: string): Promise<void> {
  const fault = await strictModesFault(path);
  if (fault === undefined) return;
  throw new DroverError('DIRECTORY_NOT_PRIVATE', `Other users could replace ${path}: ${fault}`, { hint });
}

/** Not Node's `recursive`, which never returns if a directory cannot be made in an existing parent, as in /proc. */
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
  if (code === 'ENOSPC' || cause instanceof DroverError) return cause;
  return new DroverError(
    code === 'EACCES' || code === 'EPERM' ? 'NOT_PERMITTED' : 'DIRECTORY_UNUSABLE',
    `The directory ${path} cannot be used: ${REASONS[code] ?? errorMessage(cause)}`,
    { hint },
  );
}

/** The names in a directory, sorted; empty if it does not exist. */
export async function listDirectory(path: string): Promise<string[]> {
  return (await readdir(path).catch(() => [])).sort();
}
