import { open, statfs } from 'node:fs/promises';

import { DroverError } from '../../lib/errors.js';
import { humanBytes } from '../../lib/human.js';

/** A sparse file: it takes room only as far as a guest writes to it. */
export async function makeScratchDisk(path: string, bytes: number): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.truncate(bytes);
}

/**
 * A scratch disk must be able to be filled, though at first it takes no room.
 * @throws DroverError `NO_SPACE`
 */
export async function requireSpace(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize >= bytes) return;
  throw new DroverError(
    'NO_SPACE',
    `There is no room for a guest's scratch disk: guest.scratchSize is ${humanBytes(bytes)}, and ${directory} has ${humanBytes(bavail * bsize)} free`,
    { hint: 'Make room there, choose another stateDir, or lower guest.scratchSize.' },
  );
}
