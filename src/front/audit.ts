import type { PathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import type { ClientIdentity } from './identity.js';

/** Record of what was asked of Drover and what came of it. Its fields hold no secret: no value of a setting, no log. */
export interface AuditTrail {
  record(fields: AuditRecord): void;
  /** @throws DroverError `AUDIT_UNUSABLE` while nothing can be recorded: builds are refused then */
  requireWritable(): void;
}

/** The client of a record. */
export interface AuditedClient {
  readonly session: number;
  readonly door: string;
  /** User or fingerprint of the key. */
  readonly domain: string;
  readonly client: string;
  readonly trusted: boolean;
}

export function auditedClient(session: number, identity: ClientIdentity): AuditedClient {
  const { door, domain, name, trusted } = identity;
  return { session, door, domain, client: name, trusted };
}

export type AuditRecord =
  /** A session has ended. `error`: code, if it failed. */
  | (AuditedClient & {
      readonly type: 'session';
      readonly openedAt: string;
      readonly error: string | null;
      readonly receivedBytes: number;
      readonly sentBytes: number;
    })
  /** Settings that a client asked for, by name: values can be secret. */
  | (AuditedClient & {
      readonly type: 'settings';
      readonly asked: readonly string[];
      readonly refused: readonly string[];
    })
  | (AuditedClient & { readonly type: 'refusal'; readonly operation: string; readonly reason: string })
  /** A build has ended; again if it is repeated in another guest, since the first was lost or given to others. */
  | (AuditedClient & { readonly type: 'build' } & AuditedBuild);

export interface AuditedBuild {
  readonly build: string;
  readonly derivation: string;
  readonly system: string;
  readonly guest: string | null;
  /** Generation of the guest's image. */
  readonly image: string | null;
  readonly result: string;
  /** Each with its SHA-256 as in a path info; null for what is not valid in the guest. */
  readonly outputs: readonly AuditedOutput[];
}

export interface AuditedOutput {
  readonly path: StorePath;
  readonly narHash: string | null;
}

export function auditedOutputs(
  paths: readonly StorePath[],
  infos: readonly (PathInfo | undefined)[],
): readonly AuditedOutput[] {
  return paths.map((path, index) => ({ path, narHash: infos[index]?.narHash ?? null }));
}
