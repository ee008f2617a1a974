import { open, statfs, writeFile } from 'node:fs/promises';

import { DroverError } from '../../lib/errors.js';
import { humanBytes } from '../../lib/human.js';
import type { ImageManifest } from '../driver.js';
import { configDisk } from './config-disk.js';
import type { GuestKeys } from './keys.js';

/** What one guest is told: docs/images.md has the files and their contents. */
export interface GuestConfiguration {
  /** Shell variables; the values need no quoting. */
  readonly facts: Readonly<Record<string, string | number>>;
  readonly nixConf: string;
  readonly manifest: ImageManifest;
  readonly keys: GuestKeys;
}

export async function writeConfigDisk(
  path: string,
  { facts, nixConf, manifest, keys }: GuestConfiguration,
): Promise<void> {
  const env = Object.entries(facts).map(([name, value]) => `${name}=${value}\n`);
  const client = `restrict,port-forwarding ${keys.client.publicKey}\n`;
  const disk = configDisk([
    { name: 'guest.env', content: env.join(''), mode: 0o644 },
    { name: 'nix.conf', content: nixConf, mode: 0o644 },
    { name: 'manifest.json', content: `${JSON.stringify(manifest)}\n`, mode: 0o644 },
    { name: 'host_key', content: keys.host.privateKey, mode: 0o600 },
    { name: 'authorized_keys', content: client, mode: 0o600 },
  ]);
  await writeFile(path, disk, { mode: 0o600 });
}

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
