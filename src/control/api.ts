import type { BuildSnapshot, FrontEvent } from '../front/events.js';
import type { BuildRecord } from '../history/record.js';
import type { PoolEvent, PoolSnapshot } from '../pool/events.js';
import type { WaitPlace } from '../pool/lease.js';
import type { RolloutSnapshot } from '../pool/rollout.js';

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

/** A build that goes on, as `status` and `top` show it. */
export interface RunningBuildReport extends BuildSnapshot {
  /** Since its builder was started; null before. */
  readonly runningSeconds: number | null;
  /** Duration of the last builds of this name; null if there was none. */
  readonly expectedSeconds: number | null;
  readonly usage: BuildRecord['usage'];
}

/** A build of the history. */
export interface BuildReport extends Omit<BuildRecord, 'id'> {
  /** `b1842` */
  readonly id: string;
  readonly phase: string | null;
  /** While it waits: the number of sessions that are served before it, and why it waits. */
  readonly waiting: WaitPlace | null;
  /** Median of the durations of the last builds of this name that succeeded; null if there was none. */
  readonly expectedMs: number | null;
}

/** An error, as every path answers it with a status of 400 or more. */
export interface ControlError {
  readonly error: { readonly code: string; readonly message: string; readonly hint: string | null };
}

/** Output of `drover status --json`. */
export interface Status extends PoolSnapshot {
  readonly version: string;
  readonly pid: number;
  /** `drained`: builds wait until `drover resume`. `draining`: the supervisor is ending. */
  readonly state: 'running' | 'drained' | 'draining';
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
  /** Guests of another generation that are not used yet. */
  readonly rollout: RolloutSnapshot | null;
  /** Changed keys that take effect when Drover is restarted. */
  readonly restartKeys: readonly string[];
  /** Why the last reload of the configuration failed; null if it did not. */
  readonly reloadError: { readonly at: string; readonly reason: string } | null;
  readonly doors: { readonly socket: string; readonly ssh: string | null };
  /** Where metrics are served; null where they are not. */
  readonly metrics: string | null;
  /** Address of the page for people; null where it is not served. */
  readonly page: string | null;
  readonly sessions: number;
  readonly builds: readonly RunningBuildReport[];
  readonly totals: Totals;
}

export type DroverEvent = PoolEvent | FrontEvent;

/** An event as `drover events` prints it; docs/events.md has the fields. */
export type StampedEvent = { readonly at: string } & Exclude<DroverEvent, { readonly type: 'log-line' }>;

/*
 * Paths of the control socket's HTTP interface. Ids are those that people see.
 *
 *   GET  /status                        Status
 *   GET  /events                        StampedEvents from now on, as lines of JSON, until the client goes
 *   GET  /events?recent                 StampedEvent[], the oldest first
 *   GET  /builds?failed&since&name&limit  BuildReport[], the newest first
 *   GET  /builds/ID                     BuildReport
 *   GET  /builds/ID/log?follow          text
 *   GET  /guests/ID/log?follow          text of the guest's console
 *   POST /builds/ID/cancel              Request: CancelRequest
 *   POST /drain  /guests/ID/drain  /resume
 *   POST /boot                          BootReport
 *   POST /guests/ID/shell  /run         upgraded to PROGRAM_PROTOCOL: src/control/program-server.ts
 */
export const STATUS_PATH = '/status';
export const EVENTS_PATH = '/events';
export const BUILDS_PATH = '/builds';
export const PROGRAM_PROTOCOL = 'drover-program';

export interface BuildsQuery {
  readonly failed?: boolean;
  /** Milliseconds since 1970. */
  readonly since?: number;
  /** Parts of names, of which one must occur. */
  readonly names?: readonly string[];
  /** Only builds with a smaller number. */
  readonly before?: number;
  readonly limit?: number;
}

export interface CancelRequest {
  /** Name of the person who cancels, for the client. */
  readonly by: string;
  readonly reason: string | null;
}

export interface BootReport {
  readonly guest: string;
}
