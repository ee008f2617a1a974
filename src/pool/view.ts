import type { GuestState } from './state.js';

/** Why a guest gets no more leases. */
export type RetireReason =
  'idle' | 'age' | 'builds' | 'scratch' | 'conflict' | 'lost' | 'stale' | 'unfit' | 'shutdown';

/** A guest as the planner sees it. Times are the pool's clock, in milliseconds. */
export interface GuestView {
  readonly id: string;
  readonly state: GuestState;
  readonly leases: number;
  /** Leases granted so far, returned ones included. */
  readonly builds: number;
  /** When its boot began. */
  readonly bornAt: number;
  /** When its boot was done. Its age counts from here, so that a slow boot does not use it up. */
  readonly readyAt: number;
  /** When its last lease was returned, or its boot was done. */
  readonly idleSince: number;
  /** Set once the guest must get no more leases. */
  readonly retire: RetireReason | undefined;
  /** The driver has been asked to stop it. */
  readonly stopping: boolean;
  /** The host has slept and the guest's clock has not been set since: no leases until it is. */
  readonly asleep: boolean;
}

/** A session that waits for a lease. */
export interface WaiterView {
  /** Increases in the order of arrival. */
  readonly id: number;
  /** Guests that this waiter cannot use. */
  readonly avoid: ReadonlySet<string>;
}

export interface PoolPolicy {
  readonly maxGuests: number;
  readonly warmGuests: number;
  readonly jobsPerGuest: number;
  readonly idleTimeoutMs: number;
  readonly maxBuilds: number;
  readonly maxAgeMs: number;
}

export interface Snapshot {
  readonly guests: readonly GuestView[];
  readonly waiters: readonly WaiterView[];
  /** Boots have just failed: until this time guests boot only for waiters that no other guest can serve. */
  readonly bootNotBefore: number;
  /** No more boots, and idle guests go. */
  readonly shuttingDown: boolean;
}

export type Step =
  | { readonly type: 'grant'; readonly waiter: number; readonly guest: string }
  | { readonly type: 'boot' }
  /** No more leases for this guest. */
  | { readonly type: 'drain'; readonly guest: string; readonly reason: RetireReason }
  /** The guest drains and has no lease left. */
  | { readonly type: 'destroy'; readonly guest: string };

export interface Plan {
  readonly steps: readonly Step[];
  /** When to plan again even if nothing happens, on the pool's clock. */
  readonly wakeAt: number | undefined;
}
