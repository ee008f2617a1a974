import ssh2 from 'ssh2';

import { DroverError } from './errors.js';

export interface SshKeyPair {
  /** In OpenSSH's format. Secret. */
  readonly privateKey: string;
  /** `ssh-ed25519 <base64>` */
  readonly publicKey: string;
}

/** Each key has one chance in 256 to be unusable: so many in a row have not, in the life of a universe. */
const MAX_ATTEMPTS = 64;

/**
 * Makes an ed25519 key pair, in less than a millisecond.
 *
 * ssh2 drops zero bytes at the beginning of a public key, and then nothing can read what it has made: such a key is
 * thrown away, and another one made.
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

/** The public half of a private key, `<type> <base64>`; undefined for what is no private key. */
export function publicKeyOf(privateKey: string): string | undefined {
  const key = ssh2.utils.parseKey(privateKey);
  return key instanceof Error || !key.isPrivateKey()
    ? undefined
    : `${key.type} ${key.getPublicSSH().toString('base64')}`;
}
