import { createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto';

import { formatNix32, parseHash } from './hash.js';
import type { ValidPathInfo } from './path-info.js';

/** Bytes of a raw Ed25519 public key, and of a signature. */
const PUBLIC_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/**
 * Text that the signatures of a path sign (`ValidPathInfo::fingerprint` in Nix's path-info.cc).
 * @throws ProtocolError `PROTOCOL_MALFORMED` if the NAR hash is not a SHA-256
 */
export function pathFingerprint(info: ValidPathInfo): string {
  const hash = formatNix32(parseHash(info.narHash, 'sha256').digest);
  return `1;${info.path};sha256:${hash};${info.narSize};${[...info.references].sort().join(',')}`;
}

/** Whether one of these keys, `<name>:<base64>`, has signed the path. */
export function isSigned(info: ValidPathInfo, publicKeys: readonly string[]): boolean {
  if (info.narSize === 0 || publicKeys.length === 0) return false;
  const keys = new Map(publicKeys.map(split));
  const fingerprint = Buffer.from(pathFingerprint(info));
  return info.signatures.some((text) => {
    const [name, signature] = split(text);
    const key = ed25519Key(keys.get(name));
    const complete = signature.length === SIGNATURE_BYTES;
    return key !== undefined && complete && verify(null, fingerprint, key, signature);
  });
}

/** Signs paths with a secret key of Nix. */
export interface PathSigner {
  /** `<name>:<base64>` of the public key. */
  readonly publicKey: string;
  /** @returns a signature as in a path info: `<name>:<base64>` */
  sign(info: ValidPathInfo): string;
}

/**
 * Reads a secret key as `nix key generate-secret` makes it: `<name>:<base64>`, of a seed and the public key, 32 bytes
 * each (libsodium's `crypto_sign_SECRETKEYBYTES`).
 * @returns undefined if it is not one
 */
export function parseSecretKey(text: string): PathSigner | undefined {
  const [name, secret] = split(text.trim());
  if (!/^[^\s:]+$/.test(name) || secret.length !== 2 * PUBLIC_KEY_BYTES) return undefined;
  const [d, x] = [secret.subarray(0, PUBLIC_KEY_BYTES), secret.subarray(PUBLIC_KEY_BYTES)];
  const jwk = { kty: 'OKP', crv: 'Ed25519', d: d.toString('base64url'), x: x.toString('base64url') };
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: jwk, format: 'jwk' });
  } catch {
    return undefined;
  }
  return {
    publicKey: `${name}:${x.toString('base64')}`,
    sign: (info) => `${name}:${sign(null, Buffer.from(pathFingerprint(info)), key).toString('base64')}`,
  };
}

function split(text: string): [string, Buffer] {
  const at = text.indexOf(':');
  return [text.slice(0, Math.max(at, 0)), Buffer.from(text.slice(at + 1), 'base64')];
}

function ed25519Key(raw: Buffer | undefined): KeyObject | undefined {
  if (raw?.length !== PUBLIC_KEY_BYTES) return undefined;
  return createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') },
    format: 'jwk',
  });
}
