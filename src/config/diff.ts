import type { Config } from './schema.js';

/** When a changed key takes effect: at once, in guests that boot from now on, or after a restart. */
export type ChangeKind = 'live' | 'new guests' | 'restart';

export interface ConfigChange {
  /** Dotted: `pool.maxGuests`. */
  readonly key: string;
  readonly kind: ChangeKind;
}

export interface ConfigDiff {
  readonly changes: readonly ConfigChange[];
  /** The new configuration, with the old value of every key that takes a restart. */
  readonly next: Config;
}

/** By the beginning of the key; the first match counts. */
const KINDS: readonly (readonly [prefix: string, kind: ChangeKind])[] = [
  // The guest's nix.conf has it as max-jobs.
  ['pool.jobsPerGuest', 'new guests'],
  ['pool.', 'live'],
  ['history.', 'live'],
  ['log.level', 'live'],
  ['systems', 'live'],
  ['doors.ssh.clients', 'live'],
  ['doors.ssh.ignoredKeys', 'live'],
  ['doors.ssh.trustedPublicKeys', 'live'],
  ['features', 'new guests'],
  ['guest.', 'new guests'],
];

/** Compares the running configuration with the one in the file. */
export function diffConfig(running: Config, file: Config): ConfigDiff {
  const changes: ConfigChange[] = [];
  const next = merge(running, file, '', changes);
  return { changes, next: next as Config };
}

/** Section by section; a list, and a section that only one side has, changes as a whole. */
function merge(running: unknown, file: unknown, key: string, changes: ConfigChange[]): unknown {
  if (isSection(running, key) && isSection(file, key)) {
    const names = [...new Set([...Object.keys(running), ...Object.keys(file)])];
    return Object.fromEntries(
      names.map((name) => [
        name,
        merge(running[name], file[name], key === '' ? name : `${key}.${name}`, changes),
      ]),
    );
  }
  if (JSON.stringify(running) === JSON.stringify(file)) return running;
  const kind = KINDS.find(([prefix]) => key.startsWith(prefix))?.[1] ?? 'restart';
  changes.push({ key, kind });
  return kind === 'restart' ? running : file;
}

/** A map of free names, such as Nix's settings, is one value. */
function isSection(value: unknown, key: string): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && key !== 'guest.nixConf';
}
