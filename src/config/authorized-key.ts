/** Number of fields in the binary form of each key type, its own name included. */
const FIELDS_OF_TYPE: ReadonlyMap<string, number> = new Map([
  ['ssh-ed25519', 2],
  ['ssh-rsa', 3],
  ['ecdsa-sha2-nistp256', 3],
  ['ecdsa-sha2-nistp384', 3],
  ['ecdsa-sha2-nistp521', 3],
]);
/** 128-bit security, as the other key types have: NIST SP 800-57. */
const MIN_RSA_BITS = 3072;

/**
 * Explains why `line` is not an OpenSSH public key (type, base64, optional comment); undefined if it is one. The
 * reason never repeats the line: people paste private keys by mistake.
 */
export function authorizedKeyProblem(line: string): string | undefined {
  if (line.includes('PRIVATE KEY')) return 'this is a private key; use the public one (the .pub file)';
  if (/[\r\n]/.test(line)) return 'expected one OpenSSH public key on one line, got several lines';
  const [type = '', data = ''] = line.trim().split(/\s+/);
  const types = [...FIELDS_OF_TYPE.keys()];
  const fieldCount = FIELDS_OF_TYPE.get(type);
  if (fieldCount === undefined) {
    const typeLater = types.some((known) => line.includes(` ${known} `));
    return typeLater
      ? 'options before the key type are not supported: the line must start with the key type'
      : `expected an OpenSSH public key line that starts with one of: ${types.join(', ')}`;
  }
  const blob = Buffer.from(data, 'base64');
  // Node skips characters that are not base64; only valid base64 encodes to the same text again.
  if (data === '' || blob.toString('base64') !== data) return `the part after ${type} is not base64`;
  const fields = splitFields(blob);
  if (fields?.length !== fieldCount) return `the ${type} key is truncated or damaged`;
  if (fields[0]?.toString('latin1') !== type) return `the line says ${type}, but the key is of another type`;
  if (type === 'ssh-ed25519' && fields[1]?.length !== 32) return `the ${type} key is truncated or damaged`;
  return undefined;
}

/** Explains why a valid key is too weak to be accepted; undefined if it is strong enough. */
export function weakKeyProblem(line: string): string | undefined {
  const blob = publicKeyBlob(line);
  const [type, , modulus] = splitFields(blob) ?? [];
  if (type?.toString('latin1') !== 'ssh-rsa') return undefined;
  const bits = modulus === undefined ? 0 : BigInt(`0x0${modulus.toString('hex')}`).toString(2).length;
  if (bits >= MIN_RSA_BITS) return undefined;
  return `this RSA key has ${bits} bits, and the ssh door accepts ${MIN_RSA_BITS} or more; make another key: ssh-keygen -t ed25519`;
}

/** Binary form of a public key line. */
export function publicKeyBlob(line: string): Buffer {
  return Buffer.from(line.trim().split(/\s+/)[1] ?? '', 'base64');
}

/** The comment of a public key line, without control characters. */
export function keyComment(line: string): string {
  return line.trim().split(/\s+/).slice(2).join(' ').replaceAll(/\p{C}/gu, '');
}

/** The length-prefixed strings that `blob` consists of; undefined if they do not fill it exactly. */
function splitFields(blob: Buffer): Buffer[] | undefined {
  const fields: Buffer[] = [];
  let offset = 0;
  while (offset < blob.length) {
    if (offset + 4 > blob.length) return undefined;
    const end = offset + 4 + blob.readUInt32BE(offset);
    if (end === offset + 4 || end > blob.length) return undefined;
    fields.push(blob.subarray(offset + 4, end));
    offset = end;
  }
  return fields;
}
