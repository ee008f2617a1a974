import { createHash } from 'node:crypto';

/** Fingerprint of a public key as `ssh-keygen -l` prints it: `SHA256:` and base64 without padding. */
export function sshFingerprint(publicKey: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(publicKey).digest('base64').replace(/=+$/, '')}`;
}
