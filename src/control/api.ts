import type { BuildSnapshot, FrontEvent } from '../front/events.js';
import type { PoolEvent, PoolSnapshot } from '../pool/events.js';

/** Sums since the supervisor started. Bytes are those of NARs. */
export interface Totals {
  readonly guestsBooted: number;
  readonly builds: number;
  readonly failedBuilds: number;
  readonly replayedBuilds: number;
  readonly sharedPaths: number;
  readonly sharedBytes: number;
  readonly copiedPaths: number;
  readonly copiedBytes: number;
}

/** Output of `drover status --json`. */
export interface Status extends PoolSnapshot {
  readonly version: string;
  readonly pid: number;
  readonly state: 'running' | 'draining';
  readonly startedAt: string;
  readonly driver: string;
  /** Degraded features on this host. */
  readonly warnings: readonly string[];
  /** Version of Nix in the guests. */
  readonly nixVersion: string;
  readonly protocol: string;
  readonly systems: readonly string[];
  readonly features: readonly string[];
  readonly maxGuests: number;
  readonly maxJobs: number;
  readonly doors: { readonly socket: string; readonly ssh: string | null };
  /** Where metrics are served; null where they are not. */
  readonly metrics: string | null;
  readonly sessions: number;
  readonly builds: readonly BuildSnapshot[];
  readonly totals: Totals;
}

export type DroverEvent = PoolEvent | FrontEvent;

/** Paths of the control socket's HTTP interface. */
export const STATUS_PATH = '/status';
/** Every event from now on, as lines of JSON, until the client goes. */
export const EVENTS_PATH = '/events';
