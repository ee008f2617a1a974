import ssh2 from 'ssh2';

import { DroverError } from '../../lib/errors.js';

/** The two key pairs of one guest: nobody else ever has them. Private keys are in OpenSSH's format. */
export interface GuestKeys {
  /** The guest's sshd shows it; the supervisor accepts no other. */
  readonly host: KeyPair;
  /** The supervisor's: the guest gets its public half only. */
  readonly client: KeyPair;
}

interface KeyPair {
  readonly privateKey: string;
  /** `ssh-ed25519 <base64>` */
  readonly publicKey: string;
}

/** Makes the keys of a guest, in about a millisecond. */
export function makeGuestKeys(): GuestKeys {
  return { host: makePair(), client: makePair() };
}

function makePair(): KeyPair {
  const pair = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'drover' });
  const key = ssh2.utils.parseKey(pair.private);
  if (key instanceof Error) throw new DroverError('KEY_UNUSABLE', 'A key that was just made cannot be read');
  return {
    privateKey: pair.private,
    publicKey: `${key.type} ${key.getPublicSSH().toString('base64')}`,
  };
}
