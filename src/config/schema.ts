/** Where a TCP server listens. `host` has no brackets; `port` 0 means any free port. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';

/** How many guests there are, and how long each may live. */
export interface PoolConfig {
  /** Guests at the same time, booting and draining ones included: 1 to 1024. */
  readonly maxGuests: number;
  /** Guests kept booted while nothing builds: 0 to `maxGuests`. */
  readonly warmGuests: number;
  /** Leases that one guest carries at the same time: 1 to 1024. */
  readonly jobsPerGuest: number;
  /** A guest beyond `warmGuests` is drained after so long without a lease: 0 to 24 d. */
  readonly idleTimeoutMs: number;
  /** A guest that is not ready by then has failed: 1 s to 24 h. */
  readonly bootTimeoutMs: number;
  /** How long running builds may take to finish once Drover was told to stop: 0 to 24 h. */
  readonly drainTimeoutMs: number;
  /** A guest is retired after that many leases: 1 to a million. */
  readonly maxBuilds: number;
  /** A guest is retired when it is older: 1 s to 24 d. */
  readonly maxAgeMs: number;
}

/** What one guest is made of. */
export interface GuestConfig {
  /** Cores of one guest: 0 (all of the host's) to 1024. */
  readonly cores: number;
  /** Size of the guest's upper layer: at least 1 MiB. */
  readonly scratchSizeBytes: number;
  /** `host`: the host's network. `none`: loopback only. */
  readonly network: 'host' | 'none';
  /** Extra settings of the guest's nix.conf; each value is ready to stand after `name = `. */
  readonly nixConf: Readonly<Record<string, string>>;
  /** Absolute path of a directory with `nix-daemon` and `nix-store`; undefined: the ones on PATH. */
  readonly nix: string | undefined;
}

/** How Nix reaches Drover. */
export interface DoorsConfig {
  /** Absolute, and short enough for a Unix socket on every system. */
  readonly socket: { readonly path: string };
  /** There is no ssh door where `authorizedKeys` is empty. Each key is one line: type, base64, comment. */
  readonly ssh: { readonly listen: ListenAddress; readonly authorizedKeys: readonly string[] };
}

/** The whole configuration, checked and with every default filled in. */
export interface Config {
  /** Absolute path of the directory that holds everything that Drover writes. */
  readonly stateDir: string;
  readonly driver: 'auto' | 'namespace';
  /** Nix systems to offer; undefined: what the driver's guests can build. Never empty. */
  readonly systems: readonly string[] | undefined;
  /** Nix system features to offer. */
  readonly features: readonly string[];
  readonly pool: PoolConfig;
  readonly guest: GuestConfig;
  readonly doors: DoorsConfig;
  /** null: no metrics endpoint. */
  readonly metrics: { readonly listen: ListenAddress } | null;
  readonly log: { readonly level: LogLevel };
}
