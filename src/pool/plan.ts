import type { GuestState } from './state.js';

/** A guest as the planner sees it. Times are the pool's clock, in milliseconds. */
export interface GuestView {
  readonly id: string;
  readonly state: GuestState;
  readonly leases: number;
  /** Leases granted so far, ended ones included. */
  readonly builds: number;
  readonly bornAt: number;
  /** Since when it has had no lease. */
  readonly idleSince: number;
  /** Set when it is to get no more leases, and why. */
  readonly retire: RetireReason | undefined;
  /** Being stopped already. */
  readonly stopping: boolean;
}

export type RetireReason = 'idle' | 'age' | 'builds' | 'scratch' | 'conflict' | 'lost' | 'stale' | 'shutdown';

/** A session that waits for a lease, in the order of arrival. */
export interface WaiterView {
  readonly id: number;
  /** Guests that are of no use to it. */
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
  /** Until then no guest is booted: boots have just failed. 0: now. */
  readonly bootNotBefore: number;
  /** No more boots, and everything that is idle goes. */
  readonly shuttingDown: boolean;
}

export type Step =
  | { readonly type: 'grant'; readonly waiter: number; readonly guest: string }
  | { readonly type: 'boot' }
  /** No more leases for this guest. */
  | { readonly type: 'drain'; readonly guest: string; readonly reason: RetireReason }
  /** It drains and has no lease left. */
  | { readonly type: 'destroy'; readonly guest: string };

export interface Plan {
  readonly steps: readonly Step[];
  /** When to plan again even if nothing happens, on the pool's clock. */
  readonly wakeAt: number | undefined;
}

/**
 * What to do next, given how things are: pure, so that scaling can be tried without a clock or a guest. Applying the
 * steps and planning again must come to rest: no step may make the same step necessary again.
 *
 * Packing: a waiter gets the fullest guest that has room, the oldest of equals, so that others can become idle. Guests
 * are booted only for waiters that neither a running nor a booting guest has room for, and for `warmGuests`.
 */
export function plan(snapshot: Snapshot, policy: PoolPolicy, now: number): Plan {
  const steps: Step[] = [];
  const drained = new Set<string>();
  for (const guest of snapshot.guests) {
    const reason = retireReason(guest, snapshot, policy, now);
    if (reason === undefined) continue;
    drained.add(guest.id);
    steps.push({ type: 'drain', guest: guest.id, reason });
  }
  const usable = snapshot.guests.filter((guest) => !drained.has(guest.id));
  const { grants, leases, unserved } = grantLeases(usable, snapshot.waiters, policy);
  steps.push(...grants);
  for (const guest of idleGuests(usable, leases, snapshot, policy, now)) {
    drained.add(guest.id);
    steps.push({ type: 'drain', guest: guest.id, reason: 'idle' });
  }
  for (const guest of snapshot.guests) {
    if (guest.leases === 0 && !guest.stopping && (guest.state === 'draining' || drained.has(guest.id))) {
      steps.push({ type: 'destroy', guest: guest.id });
    }
  }
  const boots = now >= snapshot.bootNotBefore ? bootsNeeded(usable, drained, unserved, snapshot, policy) : 0;
  for (let i = 0; i < boots; i++) steps.push({ type: 'boot' });
  return { steps, wakeAt: nextWake(usable, drained, leases, snapshot, policy, now) };
}

function isUp(guest: GuestView): boolean {
  return guest.state === 'ready' || guest.state === 'leased';
}

function retireReason(
  guest: GuestView,
  snapshot: Snapshot,
  policy: PoolPolicy,
  now: number,
): RetireReason | undefined {
  if (guest.state === 'booting') return guest.retire ?? (snapshot.shuttingDown ? 'shutdown' : undefined);
  if (!isUp(guest)) return undefined;
  if (guest.retire !== undefined) return guest.retire;
  if (snapshot.shuttingDown) return 'shutdown';
  if (guest.builds >= policy.maxBuilds) return 'builds';
  if (now - guest.bornAt >= policy.maxAgeMs) return 'age';
  return undefined;
}

interface Granted {
  readonly grants: readonly Step[];
  /** Leases by guest, the granted ones included. */
  readonly leases: ReadonlyMap<string, number>;
  readonly unserved: readonly WaiterView[];
}

function grantLeases(
  guests: readonly GuestView[],
  waiters: readonly WaiterView[],
  policy: PoolPolicy,
): Granted {
  const leases = new Map(guests.map((guest) => [guest.id, guest.leases]));
  const builds = new Map(guests.map((guest) => [guest.id, guest.builds]));
  const countOf = (guest: GuestView): number => leases.get(guest.id) ?? 0;
  const up = guests.filter(isUp).sort((a, b) => a.bornAt - b.bornAt);
  const grants: Step[] = [];
  const unserved: WaiterView[] = [];
  for (const waiter of waiters) {
    const best = up
      .filter(
        (guest) => countOf(guest) < policy.jobsPerGuest && (builds.get(guest.id) ?? 0) < policy.maxBuilds,
      )
      .filter((guest) => !waiter.avoid.has(guest.id))
      .reduce<GuestView | undefined>(
        (a, b) => (a === undefined || countOf(b) > countOf(a) ? b : a),
        undefined,
      );
    if (best === undefined) {
      unserved.push(waiter);
      continue;
    }
    leases.set(best.id, countOf(best) + 1);
    builds.set(best.id, (builds.get(best.id) ?? 0) + 1);
    grants.push({ type: 'grant', waiter: waiter.id, guest: best.id });
  }
  return { grants, leases, unserved };
}

/** Guests beyond `warmGuests` that have been idle for long enough, the newest first: the oldest stay. */
function idleGuests(
  guests: readonly GuestView[],
  leases: ReadonlyMap<string, number>,
  snapshot: Snapshot,
  policy: PoolPolicy,
  now: number,
): readonly GuestView[] {
  if (snapshot.shuttingDown) return [];
  const up = guests.filter(isUp).sort((a, b) => a.bornAt - b.bornAt);
  const idle = up.filter((guest) => leases.get(guest.id) === 0);
  const keep = Math.max(0, policy.warmGuests - (up.length - idle.length));
  return idle.slice(keep).filter((guest) => now - guest.idleSince >= policy.idleTimeoutMs);
}

function bootsNeeded(
  guests: readonly GuestView[],
  drained: ReadonlySet<string>,
  unserved: readonly WaiterView[],
  snapshot: Snapshot,
  policy: PoolPolicy,
): number {
  if (snapshot.shuttingDown) return 0;
  const alive = snapshot.guests.filter(
    (guest) => guest.state !== 'stopped' && guest.state !== 'failed',
  ).length;
  const booting = guests.filter((guest) => guest.state === 'booting').length;
  const up = guests.filter((guest) => isUp(guest) && !drained.has(guest.id)).length;
  const forWaiters = Math.ceil(unserved.length / policy.jobsPerGuest);
  const wanted = Math.max(forWaiters, policy.warmGuests - up) - booting;
  return Math.max(0, Math.min(wanted, policy.maxGuests - alive));
}

function nextWake(
  guests: readonly GuestView[],
  drained: ReadonlySet<string>,
  leases: ReadonlyMap<string, number>,
  snapshot: Snapshot,
  policy: PoolPolicy,
  now: number,
): number | undefined {
  const times = guests
    .filter((guest) => isUp(guest) && !drained.has(guest.id))
    .flatMap((guest) => [
      guest.bornAt + policy.maxAgeMs,
      ...(leases.get(guest.id) === 0 ? [guest.idleSince + policy.idleTimeoutMs] : []),
    ]);
  if (now < snapshot.bootNotBefore) times.push(snapshot.bootNotBefore);
  // An idle guest that is kept warm has passed its time already, and needs no waking.
  const future = times.filter((time) => time > now);
  return future.length === 0 ? undefined : Math.min(...future);
}
