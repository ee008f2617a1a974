import { open, statfs } from 'node:fs/promises';

import { DroverError } from '../lib/errors.js';
import { humanBytes } from '../lib/human.js';
import { run } from '../lib/process.js';

/** A guest is not booted with less free space than this for its scratch disk, or than the disk's size, in bytes. */
const MIN_FREE_BYTES = 4 * 1024 ** 3;

/** A sparse file: it takes room only as far as a guest writes to it. */
export async function makeScratchDisk(path: string, bytes: number): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.truncate(bytes);
}

/**
 * The same with an ext4 file system, which needs no journal: nothing on it outlives the guest.
 * @param mke2fs the program
 * @throws DroverError `PROGRAM_FAILED`
 */
export async function makeScratchFileSystem(mke2fs: string, path: string, bytes: number): Promise<void> {
  await makeScratchDisk(path, bytes);
  const options = ['-q', '-F', '-t', 'ext4', '-O', '^has_journal', '-E', 'lazy_itable_init=1', '-m', '0'];
  const { exitCode, stderr } = await run(mke2fs, [...options, path]);
  if (exitCode === 0) return;
  throw new DroverError('PROGRAM_FAILED', `${mke2fs} failed with exit status ${exitCode}: ${stderr.trim()}`);
}

/** Free space of a directory's volume, where the host knows better than statfs. undefined: it does not. */
export type BetterFreeBytes = (directory: string) => Promise<number | undefined>;

const NO_BETTER: BetterFreeBytes = () => Promise.resolve(undefined);

/**
 * Explains that a scratch disk cannot be filled. Advice only: the disk is sparse, and most builds need little of it.
 * @param better asked if there seems to be too little
 */
export async function spaceWarning(
  directory: string,
  bytes: number,
  better: BetterFreeBytes = NO_BETTER,
): Promise<string | undefined> {
  const free = await freeBytes(directory, bytes, better);
  if (free >= bytes) return undefined;
  return `guest.scratchSize is ${humanBytes(bytes)}, and ${directory} has ${humanBytes(free)} free: large builds may find no room`;
}

/**
 * Checks before a guest boots that it can build at all.
 * @param better asked if there seems to be too little
 * @throws DroverError `NO_SPACE`
 */
export async function requireSpace(
  directory: string,
  bytes: number,
  better: BetterFreeBytes = NO_BETTER,
): Promise<void> {
  const needed = Math.min(bytes, MIN_FREE_BYTES);
  const free = await freeBytes(directory, needed, better);
  if (free >= needed) return;
  throw new DroverError(
    'NO_SPACE',
    `No room for a guest's scratch disk: it needs ${humanBytes(needed)}, and ${directory} has ${humanBytes(free)} free`,
    { hint: 'Free space there, or choose another stateDir.' },
  );
}

async function freeBytes(directory: string, enough: number, better: BetterFreeBytes): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  return free >= enough ? free : Math.max(free, (await better(directory)) ?? 0);
}
