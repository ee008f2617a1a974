import type { DoorName } from './events.js';

/** The client of a session, as its door has authenticated it. */
export interface ClientIdentity {
  readonly door: DoorName;
  /**
   * Trust domain: `uid:<number>` at the socket door, `key:<SHA256 fingerprint>` at the ssh door. Nothing that a client
   * leaves in a guest or on a connection reaches a client of another domain.
   */
  readonly domain: string;
  /** For logs and `drover status`; neither unique nor secret. */
  readonly name: string;
  /** A trusted client has every power of a trusted Nix user: through its settings it is root on this host. */
  readonly trusted: boolean;
  /** Maximum number of builds that run or wait at the same time; undefined: unlimited. */
  readonly maxBuilds?: number | undefined;
  /** Maximum number of open sessions; undefined: the door's default. */
  readonly maxSessions?: number | undefined;
}

/** Rights that the configuration grants to untrusted clients. */
export interface ClientPolicy {
  /**
   * Whether a guest serves only one trust domain in its life. A client's uploads then reach no other client,
   * so they need no proof.
   */
  readonly confined: boolean;
  /** Signing keys of Nix, `<name>:<base64>`, whose signatures prove an upload where guests are shared. */
  readonly trustedPublicKeys: readonly string[];
  /** For how long failed builds are kept, in milliseconds. 0: not at all. */
  readonly keepFailedMs: number;
  /** Substituters that a client may choose among. */
  readonly substituters: ReadonlySet<string>;
}
