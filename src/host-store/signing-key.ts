import { open } from 'node:fs/promises';

import { DroverError, errorMessage } from '../lib/errors.js';
import { strictModesFault } from '../lib/strict-modes.js';
import { parseSecretKey, type PathSigner } from '../protocol/signature.js';

/** A key has some 120 bytes. */
const MAX_FILE_BYTES = 4096;

/**
 * Reads the secret key that signs what guests build.
 * @throws DroverError `KEY_UNUSABLE` if there is none, or users other than root and this one could read or replace it
 */
export async function readSigningKey(path: string): Promise<PathSigner> {
  const unusable = (reason: string): DroverError =>
    new DroverError('KEY_UNUSABLE', `The signing key ${path} cannot be used: ${reason}`, {
      hint: 'Make one with: nix key generate-secret --key-name NAME, in a file of mode 0600 (signing.secretKeyFile).',
    });
  const fault = await strictModesFault(path).catch((error: unknown) => errorMessage(error));
  if (fault !== undefined) throw unusable(fault);
  let text: string;
  try {
    await using file = await open(path);
    const { mode } = await file.stat();
    if ((mode & 0o077) !== 0)
      throw new Error(`other users can read it (mode 0${(mode & 0o777).toString(8)})`);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_FILE_BYTES), 0, MAX_FILE_BYTES, 0);
    text = buffer.toString('utf8', 0, bytesRead);
  } catch (cause) {
    throw unusable(errorMessage(cause));
  }
  const signer = parseSecretKey(text);
  // The file's content must not reach a log.
  if (signer === undefined) throw unusable('it does not hold a secret key of Nix');
  return signer;
}
