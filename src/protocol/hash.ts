import { malformed } from './protocol-error.js';

/** Bytes of each hash that Nix knows (hash.hh). */
const HASH_BYTES: ReadonlyMap<string, number> = new Map([
  ['md5', 16],
  ['sha1', 20],
  ['sha256', 32],
  ['sha512', 64],
  ['blake3', 32],
]);

const NIX32_DIGITS = '0123456789abcdfghijklmnpqrsvwxyz';

/** A hash in any of Nix's spellings: base 16, Nix's base 32, base 64, `algo:…` or `algo-base64`. */
export interface Hash {
  readonly algorithm: string;
  readonly digest: Buffer;
}

/**
 * Reads a hash the way Nix's `Hash::parseAny` does.
 * @param algorithm the algorithm if the text does not name one; a text that names another is rejected.
 * @throws ProtocolError `PROTOCOL_MALFORMED`
 */
export function parseHash(text: string, algorithm?: string): Hash {
  const prefix = /^([a-z0-9]+)[:-]/.exec(text);
  const named = prefix?.[1] ?? algorithm;
  const digits = prefix === null ? text : text.slice(prefix[0].length);
  const size = named === undefined ? undefined : HASH_BYTES.get(named);
  if (named === undefined || size === undefined || (algorithm !== undefined && named !== algorithm)) {
    throw notAHash(text);
  }
  const digest = parseDigits(digits, size);
  if (digest?.length !== size) throw notAHash(text);
  return { algorithm: named, digest };
}

/** The hash as `algo-base64`, which is how Nix's newer JSON spells it. */
export function formatSri(hash: Hash): string {
  return `${hash.algorithm}-${hash.digest.toString('base64')}`;
}

/** The digits of a hash in Nix's base 32, as in store paths and narinfo files. */
export function formatNix32(digest: Uint8Array): string {
  let digits = '';
  for (let n = Math.ceil((digest.length * 8) / 5) - 1; n >= 0; n--) {
    const at = Math.floor((n * 5) / 8);
    const bits = (digest[at] ?? 0) | ((digest[at + 1] ?? 0) << 8);
    digits += NIX32_DIGITS.charAt((bits >> ((n * 5) % 8)) & 31);
  }
  return digits;
}

function parseDigits(digits: string, size: number): Buffer | undefined {
  if (digits.length === size * 2 && /^[0-9a-f]*$/i.test(digits)) return Buffer.from(digits, 'hex');
  if (digits.length === Math.ceil((size * 8) / 5)) return parseNix32(digits, size);
  if (digits.length === Math.ceil(size / 3) * 4 && /^[0-9a-zA-Z+/]*=*$/.test(digits)) {
    return Buffer.from(digits, 'base64');
  }
  return undefined;
}

/** Nix's base 32: least significant digit last, over the bytes from the last to the first (base-nix-32.cc). */
function parseNix32(digits: string, size: number): Buffer | undefined {
  const bytes = Buffer.alloc(size);
  for (let n = 0; n < digits.length; n++) {
    const digit = NIX32_DIGITS.indexOf(digits.charAt(digits.length - n - 1));
    if (digit < 0) return undefined;
    const at = Math.floor((n * 5) / 8);
    const shifted = digit << ((n * 5) % 8);
    bytes[at] = (bytes[at] ?? 0) | (shifted & 0xff);
    const carry = shifted >> 8;
    if (at + 1 < size) bytes[at + 1] = (bytes[at + 1] ?? 0) | carry;
    else if (carry !== 0) return undefined;
  }
  return bytes;
}

function notAHash(text: string): Error {
  return malformed('This is not a hash', { hash: text.slice(0, 200) });
}
