import type { Config } from './schema.js';

/** What it takes for a changed key to take effect. */
export type ChangeKind = 'live' | 'new guests' | 'restart';

export interface ConfigChange {
  /** As in the file, with dots: `pool.maxGuests`. */
  readonly key: string;
  readonly kind: ChangeKind;
}

/** By the beginning of the key; the first that fits counts. */
const KINDS: readonly (readonly [prefix: string, kind: ChangeKind])[] = [
  // The guest's nix.conf has it as max-jobs.
  ['pool.jobsPerGuest', 'new guests'],
  ['pool.', 'live'],
  ['log.level', 'live'],
  ['systems', 'live'],
  ['features', 'new guests'],
  ['guest.', 'new guests'],
  ['', 'restart'],
];

/** The keys in which two configurations differ, and what it takes for each. */
export function diffConfig(before: Config, after: Config): readonly ConfigChange[] {
  const [old, now] = [flatten(before), flatten(after)];
  const keys = [...new Set([...old.keys(), ...now.keys()])].filter((key) => old.get(key) !== now.get(key));
  return keys.map((key) => ({
    key,
    kind: KINDS.find(([prefix]) => key.startsWith(prefix))?.[1] ?? 'restart',
  }));
}

/** Sections as keys with dots; lists and whatever else has no keys of its own as JSON. */
function flatten(value: object, prefix = ''): Map<string, string> {
  const flat = new Map<string, string>();
  for (const [name, inner] of Object.entries(value)) {
    const key = `${prefix}${name}`;
    if (typeof inner === 'object' && inner !== null && !Array.isArray(inner) && key !== 'guest.nixConf') {
      for (const [path, text] of flatten(inner as object, `${key}.`)) flat.set(path, text);
    } else if (inner !== undefined) {
      flat.set(key, JSON.stringify(inner));
    }
  }
  return flat;
}
