import { createHash } from 'node:crypto';

import type { ImageManifest } from '../../guest/driver.js';
import { DroverError } from '../../lib/errors.js';
import { guestNixConf } from '../guest-nix-conf.js';
import type { GuestImage } from './image.js';

const GIB_BYTES = 1024 ** 3;

/** The configuration that both VM drivers have. Sizes in bytes; 0 cores: all of the host's. */
export interface VmOptions {
  readonly stateDir: string;
  readonly env: NodeJS.ProcessEnv;
  /** The host's store. */
  readonly storeDir: string;
  readonly maxJobs: number;
  readonly maxGuests: number;
  readonly features: readonly string[];
  /** Whether only an image for this host's own architecture will do. */
  readonly native: boolean;
  readonly guest: {
    readonly cores: number;
    readonly memoryBytes: number;
    readonly scratchSizeBytes: number;
    readonly store: 'exact' | 'raw';
    readonly network: 'host' | 'outbound' | 'none';
    readonly nixConf: Readonly<Record<string, string>>;
    /** Path of a manifest. */
    readonly image: string | undefined;
  };
}

/**
 * Memory of a VM if the configuration names none: a quarter of the host's, in whole GiB, from 2 to 8 GiB. Two guests
 * then leave a host of 8 GiB half of its memory.
 */
export function memoryOfVm(hostBytes: number): number {
  return Math.min(8, Math.max(2, Math.floor(hostBytes / 4 / GIB_BYTES))) * GIB_BYTES;
}

/** nix.conf and manifest of all guests with one configuration. */
export interface VmIdentity {
  readonly nixConf: string;
  readonly manifest: ImageManifest;
}

/**
 * @param systems that guests can build for, the image's own first
 * @param alsoDecides what distinguishes guests besides the image and the configuration
 */
export function vmIdentity(
  { maxJobs, features, guest }: VmOptions,
  image: GuestImage,
  systems: readonly string[],
  ...alsoDecides: readonly string[]
): VmIdentity {
  const { nixVersion, protocol } = image;
  const nixConf = guestNixConf({
    cores: guest.cores,
    maxJobs,
    features,
    extraPlatforms: systems.slice(1),
    nixVersion,
    shell: image.shell,
    extra: guest.nixConf,
  });
  const parts = [image.generation, nixConf, guest, ...alsoDecides];
  const generation = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
  return { nixConf, manifest: { generation, nixVersion, protocol, systems } };
}

/** @throws DroverError `CONFIG_INVALID` where `guest.image` is not set, with `hint` */
export function requireImagePath(driver: string, { guest }: VmOptions, hint: string): string {
  if (guest.image !== undefined) return guest.image;
  throw new DroverError('CONFIG_INVALID', `The ${driver} driver needs an image: guest.image is not set`, {
    hint,
  });
}
