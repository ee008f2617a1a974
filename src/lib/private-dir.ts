import { chmod, mkdir, readdir, stat } from 'node:fs/promises';

import { DroverError } from './errors.js';

/**
 * Makes `path`, parents included, as a directory that only this user can enter (mode 0700). A directory of Drover's
 * own that exists already is closed to others.
 */
export async function makePrivateDir(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
}

/**
 * Makes `path` if it does not exist; otherwise checks that nobody but this user can enter it. For directories
 * that may be somebody else's, such as `/tmp`: their modes are not Drover's to change.
 * @throws DroverError `DIRECTORY_NOT_PRIVATE`
 */
export async function requirePrivateDir(path: string, hint: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const { mode, uid } = await stat(path);
  if ((mode & 0o077) === 0 && uid === process.getuid?.()) return;
  throw new DroverError(
    'DIRECTORY_NOT_PRIVATE',
    `Other users can enter ${path} (mode 0${(mode & 0o7777).toString(8)}, owner ${uid})`,
    { hint },
  );
}

/** The names in a directory, sorted; none where there is no such directory. */
export async function listDirectory(path: string): Promise<string[]> {
  return (await readdir(path).catch(() => [])).sort();
}
