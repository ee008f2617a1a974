export interface NixConfOptions {
  /** 0: all of the guest's. */
  readonly cores: number;
  readonly maxJobs: number;
  readonly features: readonly string[];
  /** Beyond the guest's own system. */
  readonly extraPlatforms: readonly string[];
  readonly nixVersion: string;
  /** Users whose requests the daemon trusts: those the supervisor comes as. Default: root. */
  readonly trustedUsers?: readonly string[];
  /** Experimental features besides those that guests always have. */
  readonly experimental?: readonly string[];
  /** User ids for builds that have a range of their own (`auto-allocate-uids`). */
  readonly uidRange?: { readonly first: number; readonly count: number } | undefined;
  /** The static shell in the guest that builds get as `/bin/sh`; default: its busybox. */
  readonly shell?: string | undefined;
  /** The user's own lines; they win. */
  readonly extra: Readonly<Record<string, string>>;
}

/** The guest's nix.conf. It substitutes nothing: what it needs comes from the host's store. */
export function guestNixConf(options: NixConfOptions): string {
  const settings = new Map<string, string>([
    ['build-users-group', 'nixbld'],
    ['sandbox', 'true'],
    ['sandbox-fallback', 'false'],
    ['sandbox-paths', `/bin/sh=${options.shell ?? '/bin/busybox'}`],
    ['trusted-users', (options.trustedUsers ?? ['root']).join(' ')],
    ['substituters', ''],
    ['max-jobs', String(options.maxJobs)],
    ['cores', String(options.cores)],
    ['system-features', options.features.join(' ')],
    ['extra-platforms', options.extraPlatforms.join(' ')],
    ['experimental-features', ['nix-command', 'ca-derivations', ...(options.experimental ?? [])].join(' ')],
    ...uidSettings(options.uidRange),
    ['auto-optimise-store', 'false'],
    // The guest's disk does not outlive it, so nothing needs to reach it.
    ['fsync-metadata', 'false'],
    // Clients keep what they were sent of it.
    ['keep-build-log', 'false'],
    ['use-case-hack', 'false'],
    ['builders', ''],
    // A daemon that builds a derivation of its own store asks it first, though there are no builders.
    ['build-hook', '/usr/bin/build-remote'],
    ...(hasBuildDir(options.nixVersion) ? ([['build-dir', '/build']] as const) : []),
    ...Object.entries(options.extra),
  ]);
  return [...settings].map(([name, value]) => `${name} = ${value}\n`).join('');
}

/** Nix 2.22 and later has the setting; before that `TMPDIR` decides. */
function hasBuildDir(nixVersion: string): boolean {
  const [major = 0, minor = 0] = nixVersion.split('.').map(Number);
  return major > 2 || (major === 2 && minor >= 22);
}

function uidSettings(range: NixConfOptions['uidRange']): readonly (readonly [string, string])[] {
  if (range === undefined) return [];
  return [
    ['auto-allocate-uids', 'true'],
    ['use-cgroups', 'true'],
    ['start-id', String(range.first)],
    ['id-count', String(range.count)],
  ];
}
