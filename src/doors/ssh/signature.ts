import ssh2 from 'ssh2';

import { SIGNATURE_ALGORITHMS } from './signature-algorithms.js';

/** Message number of SSH_MSG_USERAUTH_REQUEST. */
const USERAUTH_REQUEST = 50;
/** A client's proof that it owns a key: RFC 4252, section 7. */
export interface KeyProof {
  readonly publicKey: Buffer;
  /** The data that was signed. */
  readonly signed: Buffer;
  /** As ssh2 has it: ECDSA's in DER, all others as they are. */
  readonly signature: Buffer;
}

/**
 * Verifies that the owner of the key wanted to log in over one particular connection.
 * @returns the session identifier of that connection; undefined if the proof is none
 */
export function verifyProof({ publicKey, signed, signature }: KeyProof): Buffer | undefined {
  const request = parseSigned(signed);
  if (request === undefined || !request.publicKey.equals(publicKey)) return undefined;
  const algorithm = SIGNATURE_ALGORITHMS.get(request.algorithm);
  const key = ssh2.utils.parseKey(publicKey);
  if (algorithm === undefined || key instanceof Error || key.type !== algorithm.type) return undefined;
  // Contrary to its type it may also return an error.
  const verified: unknown = key.verify(signed, signature, algorithm.hash);
  return verified === true ? request.sessionId : undefined;
}

interface SignedRequest {
  readonly sessionId: Buffer;
  readonly algorithm: string;
  readonly publicKey: Buffer;
}

/** Undefined unless the data is a request to log in to ssh's only service with a key, and nothing else. */
function parseSigned(signed: Buffer): SignedRequest | undefined {
  let offset = 0;
  const string = (): Buffer => {
    const start = offset + 4;
    const end = start + signed.readUInt32BE(offset);
    if (end > signed.length) throw new RangeError('truncated');
    offset = end;
    return signed.subarray(start, end);
  };
  try {
    const sessionId = string();
    const isRequest = signed.readUInt8(offset++) === USERAUTH_REQUEST;
    const [, service, method] = [string(), string().toString('latin1'), string().toString('latin1')];
    const hasSignature = signed.readUInt8(offset++) === 1;
    const [algorithm, publicKey] = [string().toString('latin1'), string()];
    const fits = isRequest && service === 'ssh-connection' && method === 'publickey' && hasSignature;
    return fits && offset === signed.length && sessionId.length >= 20
      ? { sessionId, algorithm, publicKey }
      : undefined;
  } catch {
    return undefined;
  }
}
