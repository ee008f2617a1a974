import type { GuestState } from './state.js';

/**
 * Why a guest gets no more leases. `turn`: its place goes to another client. `operator`: `drover drain`. `shell`: a
 * person was root in it.
 */
export type RetireReason =
  | 'idle'
  | 'age'
  | 'builds'
  | 'scratch'
  | 'conflict'
  | 'turn'
  | 'lost'
  | 'untrusted'
  | 'stale'
  | 'unfit'
  | 'operator'
  | 'shell'
  | 'shutdown';

/** A guest as the planner sees it. Times are the pool's clock, in milliseconds. */
export interface GuestView {
  readonly id: string;
  readonly state: GuestState;
  readonly leases: number;
  /** Shells that people have open in it: it stays until they are closed. */
  readonly shells: number;
  /** Failed builds that it keeps: it stays for them, unless a session waits for its place. */
  readonly kept: number;
  /** Leases granted so far, returned ones included. */
  readonly builds: number;
  /** Trust domain of its first lease; undefined before. */
  readonly domain: string | undefined;
  /** When its boot began. */
  readonly bornAt: number;
  /** When its boot was done. Its age counts from here, so that a slow boot does not use it up. */
  readonly readyAt: number;
  /** When its first lease was granted. */
  readonly claimedAt: number;
  /** When its last lease was returned, or its boot was done. */
  readonly idleSince: number;
  /** When it last answered. */
  readonly seenAt: number;
  /** When it began to drain. */
  readonly drainingSince: number;
  /** Set once the guest must get no more leases. */
  readonly retire: RetireReason | undefined;
  /** The driver has been asked to stop it. */
  readonly stopping: boolean;
  /** The host has slept and the guest's clock has not been set since: no leases until it is. */
  readonly asleep: boolean;
  /** It has been asked for a sign of life: no leases until it answers. */
  readonly probing: boolean;
  /** It is slow to answer: waiters count on it no longer. */
  readonly late: boolean;
}

/** A session that waits for a lease. */
export interface WaiterView {
  /** Increases in the order of arrival. */
  readonly id: number;
  readonly domain: string;
  /** Guests that this waiter cannot use. */
  readonly avoid: ReadonlySet<string>;
  /** It needs a guest without earlier sessions, and without others. */
  readonly alone: boolean;
}

/** Whom a guest serves in its life: one trust domain, one lease, or all clients. */
export type Isolation = 'client' | 'build' | 'shared';

export interface PoolPolicy {
  readonly maxGuests: number;
  readonly warmGuests: number;
  readonly jobsPerGuest: number;
  readonly isolation: Isolation;
  readonly idleTimeoutMs: number;
  readonly maxBuilds: number;
  readonly maxAgeMs: number;
}

/** Conditions for the planner besides guests and waiters. */
export interface Conditions {
  /** Boots have just failed: until this time guests boot only for waiters that no other guest can serve. */
  readonly bootNotBefore: number;
  /** Boots have just failed: until this time none begins. Infinity: until the operator resumes. */
  readonly retryBootAt: number;
  /** No more boots, and idle guests go. */
  readonly shuttingDown: boolean;
}

export type Step =
  | { readonly type: 'grant'; readonly waiter: number; readonly guest: string }
  /** Ask the guest for a sign of life. */
  | { readonly type: 'probe'; readonly guest: string }
  | { readonly type: 'boot' }
  /** Keep no failed builds in this guest any more. */
  | { readonly type: 'release'; readonly guest: string }
  /** No more leases for this guest. */
  | { readonly type: 'drain'; readonly guest: string; readonly reason: RetireReason }
  /** The guest drains and has no lease left. */
  | { readonly type: 'destroy'; readonly guest: string };
