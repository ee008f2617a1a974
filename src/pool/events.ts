import type { BootPhase } from '../guest/driver.js';
import type { BootFailuresSnapshot } from './boot-failures.js';
import type { GuestState } from './state.js';
import type { RetireReason } from './view.js';

/** Duration of each phase that a boot has come to. */
export type BootPhases = Readonly<Partial<Record<BootPhase, number>>>;

/** Told to observers after it has happened. Durations are in milliseconds. */
export type PoolEvent =
  | {
      readonly type: 'guest-state';
      readonly guest: string;
      readonly from: GuestState | undefined;
      readonly to: GuestState;
      readonly reason: string | undefined;
    }
  | {
      readonly type: 'boot-finished';
      readonly guest: string;
      readonly result: 'ok' | 'failed';
      /** Code of the failure, such as `BOOT_TIMEOUT`; undefined if there was none. */
      readonly code?: string | undefined;
      readonly durationMs: number;
      readonly phases: BootPhases;
    }
  | { readonly type: 'guest-retired'; readonly guest: string; readonly reason: RetireReason }
  /** The share of the host's store lacked files for a moment, so often since the guest was last asked. */
  | { readonly type: 'share-retried'; readonly guest: string; readonly retries: number }
  /** Guests that are made in another way have proved themselves and are used from now on, or have not. */
  | {
      readonly type: 'rollout-finished';
      readonly generation: string;
      readonly result: 'ok' | 'failed';
      readonly durationMs: number;
    }
  /** A guest for one program of a person boots, beside the others; it has ended. */
  | { readonly type: 'program-started'; readonly guest: string; readonly program: string }
  | {
      readonly type: 'program-ended';
      readonly guest: string;
      readonly program: string;
      readonly durationMs: number;
    }
  | { readonly type: 'lease-waiting' }
  | { readonly type: 'lease-granted'; readonly guest: string; readonly waitedMs: number }
  | { readonly type: 'lease-refused'; readonly waitedMs: number }
  | { readonly type: 'lease-returned'; readonly guest: string };

/** A guest as `status` shows it. */
export interface GuestSnapshot {
  readonly id: string;
  readonly state: GuestState;
  readonly driver: string;
  /** Trust domain that it serves; null before its first lease. */
  readonly domain: string | null;
  readonly leases: number;
  /** Shells that are open in it. */
  readonly shells: number;
  /** Ids of failed builds that are kept in it. */
  readonly keptBuilds: readonly string[];
  /** Leases granted so far. */
  readonly builds: number;
  /** When its boot began, and when it was ready: ISO 8601. */
  readonly startedAt: string;
  readonly bootedAt: string | null;
  readonly idleSeconds: number;
  /** The host has slept and the guest's clock has not been set since: it gets no new lease. */
  readonly asleep: boolean;
  /** Fullness of its scratch when it was last asked; null before. */
  readonly scratch: { readonly usedBytes: number; readonly totalBytes: number } | null;
  /** Its memory when it was last asked, page cache included in namespaces; null before, or if nothing limits it. */
  readonly memory: { readonly usedBytes: number; readonly totalBytes: number } | null;
  readonly sharedPaths: number;
  readonly consoleLog: string;
}

/** A guest that one program of a person has to itself, beside those that serve builds. */
export interface ProgramGuestSnapshot extends Pick<
  GuestSnapshot,
  'id' | 'driver' | 'startedAt' | 'bootedAt' | 'scratch' | 'memory' | 'consoleLog'
> {
  readonly program: string;
}

/** Sessions of one trust domain that wait for a lease. */
export interface QueueSnapshot {
  readonly domain: string;
  readonly waiting: number;
  /** Waiting time of the first of them. */
  readonly oldestSeconds: number;
  /** Why they wait, for people: `2 of 2 guests are full`. */
  readonly reason: string;
}

/** The pool at one moment. */
export interface PoolSnapshot {
  readonly guests: readonly GuestSnapshot[];
  /** Guests of `drover run`; they do not count towards `maxGuests`. */
  readonly programs: readonly ProgramGuestSnapshot[];
  readonly maxGuests: number;
  readonly jobsPerGuest: number;
  /** Number of sessions that wait for a lease. */
  readonly waiting: number;
  readonly queues: readonly QueueSnapshot[];
  readonly leases: number;
  /** Boots that have failed in a row; null while they work. */
  readonly failedBoots: BootFailuresSnapshot | null;
}
