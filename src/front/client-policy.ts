/** Rights that the configuration grants to untrusted clients. */
export interface ClientPolicy {
  /**
   * Whether a guest serves only one trust domain in its life. A client's uploads then reach no other client,
   * so they need no proof.
   */
  readonly confined: boolean;
  /** Signing keys of Nix, `<name>:<base64>`, whose signatures prove an upload where guests are shared. */
  readonly trustedPublicKeys: readonly string[];
  /** Substituters that a client may choose among. */
  readonly substituters: ReadonlySet<string>;
}
