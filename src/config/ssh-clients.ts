import { createHash } from 'node:crypto';

import { z } from 'zod';

import { authorizedKeyProblem, keyComment, publicKeyBlob, weakKeyProblem } from './authorized-key.js';
import { showValue } from './errors.js';
import { flag, list, listen, section, text, wholeNumber } from './fields.js';
import type { ListenAddress } from './listen.js';

/** A client of the ssh door. */
export interface SshClientConfig {
  /** Public key: type and base64. */
  readonly key: string;
  /** `SHA256:…`, as `ssh-keygen -l` prints it. Unique. */
  readonly fingerprint: string;
  /** As configured, else the key's comment, else its fingerprint. */
  readonly name: string;
  /** Root on this host: see docs/security.md. */
  readonly trusted: boolean;
  /** Builds that run or wait at the same time: 1 to a million. undefined: unlimited. */
  readonly maxBuilds: number | undefined;
  /** Open sessions: 1 to 10,000. undefined: as many as `drover machines` advertises jobs, and some more. */
  readonly maxSessions: number | undefined;
}

export interface SshDoorConfig {
  readonly listen: ListenAddress;
  /** There is no ssh door while this is empty. */
  readonly clients: readonly SshClientConfig[];
  /** Why keys of `authorizedKeys` were left out: they are too weak. */
  readonly ignoredKeys: readonly string[];
  /** Nix signing keys, `name:base64`: a path that one of them has signed may be uploaded by untrusted clients. */
  readonly trustedPublicKeys: readonly string[];
}

const MAX_NAME_LENGTH = 64;

const publicKey = z
  .string({ error: (issue) => `expected an OpenSSH public key line, got ${showValue(issue.input)}` })
  .transform((line, context) => {
    const message = authorizedKeyProblem(line);
    if (message !== undefined) context.addIssue({ code: 'custom', message, input: line });
    return line.trim();
  });

const strongKey = publicKey.superRefine((line, context) => {
  const message = authorizedKeyProblem(line) === undefined ? weakKeyProblem(line) : undefined;
  if (message !== undefined) context.addIssue({ code: 'custom', message, input: line });
});

const client = section({
  key: strongKey,
  name: text(
    new RegExp(`^[^\\p{C}]{1,${MAX_NAME_LENGTH}}$`, 'u'),
    `a name of 1 to ${MAX_NAME_LENGTH} printable characters`,
  ).optional(),
  trusted: flag().prefault(false),
  maxBuilds: wholeNumber({ min: 1, max: 1_000_000 }).optional(),
  maxSessions: wholeNumber({ min: 1, max: 10_000 }).optional(),
});

const trustedPublicKey = z
  .string({
    error: (issue) =>
      `expected a public key of Nix such as cache.example.org-1:…=, got ${showValue(issue.input)}`,
  })
  .refine((key) => /^[^:\s]+:[A-Za-z0-9+/]{43}=$/.test(key), {
    error: ({ input }) =>
      `expected a public key of Nix (name, colon, 32 bytes in base64; see nix-store --generate-binary-cache-key), got ${showValue(input)}`,
  });

export const sshDoor = section({
  listen: listen.prefault('127.0.0.1:31122'),
  authorizedKeys: list(publicKey, 'OpenSSH public key lines').prefault([]),
  clients: list(client, 'ssh clients').prefault([]),
  trustedPublicKeys: list(trustedPublicKey, 'public keys of Nix').prefault([]),
})
  .superRefine(({ authorizedKeys, clients }, context) => {
    const seen = new Set<string>();
    const check = (line: string, path: (string | number)[]): void => {
      const fingerprint = sshFingerprint(publicKeyBlob(line));
      if (seen.has(fingerprint)) {
        const message = `the key ${fingerprint} is listed twice in doors.ssh; remove one of the entries`;
        context.addIssue({ code: 'custom', message, path, input: line });
      }
      seen.add(fingerprint);
    };
    clients.forEach(({ key }, index) => {
      check(key, ['clients', index, 'key']);
    });
    authorizedKeys.forEach((key, index) => {
      check(key, ['authorizedKeys', index]);
    });
  })
  .transform(({ authorizedKeys, clients, ...rest }): SshDoorConfig => {
    const usable = authorizedKeys.filter((key) => weakKeyProblem(key) === undefined);
    return {
      ...rest,
      clients: [
        ...clients.map((entry) => clientOf(entry.key, entry)),
        ...usable.map((key) => clientOf(key, { trusted: false })),
      ],
      ignoredKeys: authorizedKeys.flatMap((key) => {
        const problem = weakKeyProblem(key);
        return problem === undefined ? [] : [`${displayName(key)} is ignored: ${problem}`];
      }),
    };
  });

function clientOf(
  line: string,
  {
    name,
    trusted,
    maxBuilds,
    maxSessions,
  }: {
    name?: string | undefined;
    trusted: boolean;
    maxBuilds?: number | undefined;
    maxSessions?: number | undefined;
  },
): SshClientConfig {
  return {
    key: line.split(/\s+/).slice(0, 2).join(' '),
    fingerprint: sshFingerprint(publicKeyBlob(line)),
    name: name ?? displayName(line),
    trusted,
    maxBuilds,
    maxSessions,
  };
}

function displayName(line: string): string {
  return keyComment(line).slice(0, MAX_NAME_LENGTH) || sshFingerprint(publicKeyBlob(line));
}

/** Fingerprint of a public key as `ssh-keygen -l` prints it: `SHA256:` and base64 without padding. */
function sshFingerprint(publicKey: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(publicKey).digest('base64').replace(/=+$/, '')}`;
}
