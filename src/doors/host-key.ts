import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

import ssh2 from 'ssh2';

import { DroverError, errorCode } from '../lib/errors.js';

export interface HostKey {
  /** In OpenSSH's format. Secret. */
  readonly privateKey: string;
  /** `ssh-ed25519 <base64>`, for known_hosts and the machines file. */
  readonly publicKey: string;
}

/**
 * The ssh door's host key, made once and kept in `file` with mode 0600.
 * @throws DroverError `HOST_KEY_UNUSABLE` for a file that holds no private key: it is never overwritten
 */
export async function loadHostKey(file: string): Promise<HostKey> {
  const existing = await readHostKey(file);
  if (existing !== undefined) return existing;
  const pair = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'drover' });
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  // One that an earlier start left behind might be readable to others.
  await rm(`${file}.tmp`, { force: true });
  await writeFile(`${file}.tmp`, pair.private, { mode: 0o600 });
  await rename(`${file}.tmp`, file);
  return parse(pair.private, file);
}

/** The key in `file`, or nothing where there is none. */
export async function readHostKey(file: string): Promise<HostKey | undefined> {
  try {
    return parse(await readFile(file, 'utf8'), file);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function parse(privateKey: string, file: string): HostKey {
  const key = ssh2.utils.parseKey(privateKey);
  if (key instanceof Error || !key.isPrivateKey()) {
    throw new DroverError('HOST_KEY_UNUSABLE', `${file} is not a private key`, {
      hint: 'Remove the file to have a new key made; clients must then be told its public key again.',
    });
  }
  return { privateKey, publicKey: `${key.type} ${key.getPublicSSH().toString('base64')}` };
}
