import { makeSshKeyPair, type SshKeyPair } from '../../lib/ssh-key.js';
import type { ImageManifest } from '../../guest/driver.js';

/** A file that tells a guest who it is. */
export interface GuestFile {
  /** At most 100 bytes, no directories. */
  readonly name: string;
  readonly content: string;
  readonly mode: 0o600 | 0o644;
}

export interface GuestFacts {
  readonly name: string;
  readonly scratchBytes: number;
  readonly network: 'host' | 'outbound' | 'none';
  /** How the guest sees the host's store. */
  readonly share: 'virtiofs' | 'none';
  /** Whether the share lies under a file system that shows listed paths only. */
  readonly store: 'exact' | 'raw';
  /** Undefined: the driver knows no Rosetta. */
  readonly rosetta?: 'off' | 'on' | 'cache';
  /** Candidates for running x86_64 programs, in order. Undefined: the driver leaves that to the image. */
  readonly translators?: readonly string[];
}

export interface GuestFilesSpec {
  readonly facts: GuestFacts;
  readonly nixConf: string;
  readonly manifest: ImageManifest;
  readonly keys: GuestKeys;
}

/** The files of the image contract (docs/images.md): each driver hands them to its guests in its own way. */
export function guestFiles({ facts, nixConf, manifest, keys }: GuestFilesSpec): readonly GuestFile[] {
  const { name, scratchBytes, network, share, store, rosetta, translators } = facts;
  const card = network === 'none' ? 'none' : 'host';
  const env = [
    ...[`name=${name}`, `scratch_bytes=${scratchBytes}`, `network=${card}`, `share=${share}`],
    `store=${store}`,
    ...(rosetta === undefined ? [] : [`rosetta=${rosetta}`]),
    ...(translators === undefined ? [] : [`translators=${translators.join(',')}`]),
  ];
  return [
    { name: 'guest.env', content: env.map((line) => `${line}\n`).join(''), mode: 0o644 },
    { name: 'nix.conf', content: nixConf, mode: 0o644 },
    { name: 'manifest.json', content: `${JSON.stringify(manifest)}\n`, mode: 0o644 },
    { name: 'host_key', content: keys.host.privateKey, mode: 0o600 },
    {
      name: 'authorized_keys',
      content: `restrict,port-forwarding,pty ${keys.client.publicKey}\n`,
      mode: 0o600,
    },
  ];
}

/** The two key pairs of one guest, made for it alone. */
export interface GuestKeys {
  /** The guest's sshd shows it; the supervisor accepts no other. */
  readonly host: SshKeyPair;
  /** The supervisor's: the guest gets its public half only. */
  readonly client: SshKeyPair;
}

export function makeGuestKeys(): GuestKeys {
  return { host: makeSshKeyPair(), client: makeSshKeyPair() };
}
