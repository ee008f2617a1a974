/** What the configuration grants to clients that are not trusted. */
export interface ClientPolicy {
  /**
   * Whether a guest serves one trust domain in its life. What a client uploads there then reaches no other client, so it
   * needs no proof.
   */
  readonly confined: boolean;
  /** Signing keys of Nix, `<name>:<base64>`, whose signatures prove an upload where guests are shared. */
  readonly trustedPublicKeys: readonly string[];
  /** Substituters that a client may choose among. */
  readonly substituters: ReadonlySet<string>;
}
