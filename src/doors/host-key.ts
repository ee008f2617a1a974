import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

import { DroverError, errorCode } from '../lib/errors.js';
import { makeSshKeyPair, publicKeyOf, type SshKeyPair } from '../lib/ssh-key.js';

/** Its public half is for known_hosts and the machines file. */
export type HostKey = SshKeyPair;

/**
 * The ssh door's host key, made once and kept in `file` with mode 0600.
 * @throws DroverError `HOST_KEY_UNUSABLE` if the file does not hold a private key: it is never overwritten
 */
export async function loadHostKey(file: string): Promise<HostKey> {
  const existing = await readHostKey(file);
  if (existing !== undefined) return existing;
  const { privateKey } = makeSshKeyPair();
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  // A file left by an earlier start might be readable to others.
  await rm(`${file}.tmp`, { force: true });
  await writeFile(`${file}.tmp`, privateKey, { mode: 0o600 });
  await rename(`${file}.tmp`, file);
  return parse(privateKey, file);
}

/** Writes the known_hosts file with which ssh recognises the door by the name `alias`. */
export async function writeKnownHosts(file: string, alias: string, { publicKey }: HostKey): Promise<void> {
  await writeFile(`${file}.tmp`, `${alias} ${publicKey}\n`, { mode: 0o644 });
  await rename(`${file}.tmp`, file);
}

/** The key in `file`, or nothing if there is no such file. */
export async function readHostKey(file: string): Promise<HostKey | undefined> {
  try {
    return parse(await readFile(file, 'utf8'), file);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function parse(privateKey: string, file: string): HostKey {
  const publicKey = publicKeyOf(privateKey);
  if (publicKey !== undefined) return { privateKey, publicKey };
  throw new DroverError('HOST_KEY_UNUSABLE', `${file} is not a private key`, {
    hint: 'Remove the file to create a new key; then distribute its public key to clients again.',
  });
}
