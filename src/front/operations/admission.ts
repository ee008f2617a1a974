import type { ValidPathInfo } from '../../protocol/path-info.js';
import { isSigned } from '../../protocol/signature.js';
import type { Refusal } from '../refusals.js';
import type { OperationContext } from './context.js';

/** How a path enters a guest: with what the client has asked for, or with or without a check by the guest's Nix. */
export type Admission = 'as-sent' | { readonly dontCheckSignatures: boolean };

/**
 * Decides whether a client may put this path into a guest.
 *
 * Nix's build hook uploads the inputs of a build unsigned, and asks for no check; on the wire that equals
 * `nix copy --no-check-sigs`, so the two cannot be distinguished. They differ in where the path ends up: a
 * build's input stays in a guest of this client's domain, which no other client's build reads from, and never
 * reaches the host. If guests are shared there is no such place, and a path needs a proof: its content, or a
 * signature.
 */
export function admit(info: ValidPathInfo, { identity, policy }: OperationContext): Admission | Refusal {
  const { confined, trustedPublicKeys } = policy();
  if (identity.trusted || confined) return 'as-sent';
  // The guest's Nix computes the path from the content, and rejects one that does not fit.
  if (info.contentAddress !== undefined) return { dontCheckSignatures: false };
  if (isSigned(info, trustedPublicKeys)) return { dontCheckSignatures: true };
  return {
    why: `clients share guests here, and ${info.path} is neither content-addressed nor signed by a trusted key`,
    advice:
      'Sign it with a key in doors.ssh.trustedPublicKeys, or set pool.isolation to client on the Drover host',
  };
}

export function isRefusal(admission: Admission | Refusal): admission is Refusal {
  return typeof admission === 'object' && 'why' in admission;
}
