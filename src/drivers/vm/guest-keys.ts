import { makeSshKeyPair, type SshKeyPair } from '../../lib/ssh-key.js';

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
