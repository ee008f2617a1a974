import type { GuestState } from './state.js';
import type { RetireReason } from './view.js';

/** What the pool tells observers, after it has happened. Durations in milliseconds. */
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
      readonly durationMs: number;
    }
  | { readonly type: 'guest-retired'; readonly guest: string; readonly reason: RetireReason }
  | { readonly type: 'lease-waiting' }
  | { readonly type: 'lease-granted'; readonly guest: string; readonly waitedMs: number }
  | { readonly type: 'lease-refused'; readonly waitedMs: number }
  | { readonly type: 'lease-returned'; readonly guest: string };

/** A guest as `status` shows it. */
export interface GuestSnapshot {
  readonly id: string;
  readonly state: GuestState;
  readonly driver: string;
  readonly leases: number;
  /** Leases granted so far. */
  readonly builds: number;
  /** When its boot began, and when it was ready: ISO 8601. */
  readonly startedAt: string;
  readonly bootedAt: string | null;
  readonly idleSeconds: number;
  /** Since the host's sleep its clock has not been set: it gets no new lease. */
  readonly asleep: boolean;
  readonly sharedPaths: number;
  readonly consoleLog: string;
}

/** The pool at one moment. */
export interface PoolSnapshot {
  readonly guests: readonly GuestSnapshot[];
  /** Sessions that wait for a lease. */
  readonly waiting: number;
  readonly leases: number;
}
