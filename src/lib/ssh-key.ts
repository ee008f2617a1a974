import ssh2 from 'ssh2';

import { DroverError } from './errors.js';

export interface SshKeyPair {
  /** In OpenSSH's format. Secret. */
  readonly privateKey: string;
  /** `ssh-ed25519 <base64>` */
  readonly publicKey: string;
}

/** One key in 256 is unusable; 64 failures in a row will not happen. */
const MAX_ATTEMPTS = 64;

/**
 * Makes an ed25519 key pair, in less than a millisecond.
 *
 * ssh2 drops leading zero bytes of a public key, which makes the key unreadable. Such a key is discarded, and another
 * one made.
 */
export function makeSshKeyPair(): SshKeyPair {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const pair = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'drover' });
    const publicKey = publicKeyOf(pair.private);
    if (publicKey !== undefined) return { privateKey: pair.private, publicKey };
  }
  throw new DroverError(
    'KEY_UNUSABLE',
    `${MAX_ATTEMPTS} ssh keys in a row could not be read after they were made`,
  );
}

/** The public half of a private key, `<type> <base64>`; undefined if `privateKey` is not one. */
export function publicKeyOf(privateKey: string): string | undefined {
  const key = ssh2.utils.parseKey(privateKey);
  return key instanceof Error || !key.isPrivateKey()
    ? undefined
    : `${key.type} ${key.getPublicSSH().toString('base64')}`;
}
