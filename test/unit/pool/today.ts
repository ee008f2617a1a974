import { isAlive } from '../../../src/pool/state.js';
import type { GuestView, PoolPolicy, RetireReason, Step, WaiterView } from '../../../src/pool/view.js';
import { apply, type Snapshot } from './model.js';

/*
 * The planner of Drover 0.1.0, before trust domains and indexes: it looks at every guest and every waiter, and plans
 * several steps at once. Where there is one domain, the planner of today must come to the same.
 */

/** Plans and applies until there is nothing to do. */
export function planOfToday(
  start: Snapshot,
  policy: PoolPolicy,
  now: number,
): { after: Snapshot; steps: readonly Step[] } {
  let after = start;
  const all: Step[] = [];
  for (let rounds = 0; rounds < 10; rounds++) {
    const steps = plan(after, policy, now);
    if (steps.length === 0) return { after, steps: all };
    all.push(...steps);
    for (const step of steps) after = apply(after, step, policy, now);
  }
  throw new Error('the plan does not come to rest');
}

function plan(snapshot: Snapshot, policy: PoolPolicy, now: number): readonly Step[] {
  const drains: Step[] = [];
  const drained = new Set<string>();
  const drain = (guest: GuestView, reason: RetireReason): void => {
    drained.add(guest.id);
    drains.push({ type: 'drain', guest: guest.id, reason });
  };
  const staying = (guest: GuestView): boolean => guest.state !== 'draining' && !drained.has(guest.id);

  for (const guest of snapshot.guests) {
    const reason = retireReason(guest, snapshot, policy, now);
    if (reason !== undefined) drain(guest, reason);
  }
  const { grants, leases, unserved } = assignLeases(
    snapshot.guests.filter(staying),
    snapshot.waiters,
    policy,
  );
  for (const guest of idleGuests(snapshot.guests.filter(staying), leases, policy, now)) drain(guest, 'idle');
  const { boots, evictions } = demand(
    snapshot.guests.filter(staying),
    unserved,
    leases,
    snapshot,
    policy,
    now,
  );
  for (const guest of evictions) drain(guest, 'conflict');

  const destroys = snapshot.guests
    .filter((guest) => guest.state === 'draining' || drained.has(guest.id))
    .filter((guest) => !guest.stopping && (leases.get(guest.id) ?? guest.leases) === 0)
    .map((guest): Step => ({ type: 'destroy', guest: guest.id }));
  return [...grants, ...drains, ...destroys, ...Array<Step>(boots).fill({ type: 'boot' })];
}
function retireReason(
  guest: GuestView,
  snapshot: Snapshot,
  policy: PoolPolicy,
  now: number,
): RetireReason | undefined {
  if (guest.state !== 'booting' && !isUp(guest)) return undefined;
  if (guest.retire !== undefined) return guest.retire;
  if (snapshot.shuttingDown) return 'shutdown';
  if (guest.state === 'booting') return undefined;
  if (guest.builds >= policy.maxBuilds) return 'builds';
  if (now >= guest.readyAt + policy.maxAgeMs) return 'age';
  return undefined;
}

/** Guests beyond `warmGuests` that have been idle for long enough, the newest first: the oldest stay. */
function idleGuests(
  guests: readonly GuestView[],
  leases: ReadonlyMap<string, number>,
  policy: PoolPolicy,
  now: number,
): readonly GuestView[] {
  const up = guests.filter(isUp).sort((a, b) => a.bornAt - b.bornAt);
  const idle = up.filter((guest) => leases.get(guest.id) === 0);
  const keep = Math.max(0, policy.warmGuests - (up.length - idle.length));
  return idle.slice(keep).filter((guest) => now >= guest.idleSince + policy.idleTimeoutMs);
}

interface Assignment {
  readonly grants: readonly Step[];
  /**
   * Leases by guest, included those that are granted now, and those that are kept for waiters until the guest is awake.
   */
  readonly leases: ReadonlyMap<string, number>;
  readonly unserved: readonly WaiterView[];
}

interface Slots {
  readonly guest: GuestView;
  leases: number;
  free: number;
}

function isUp(guest: GuestView): boolean {
  return guest.state === 'ready' || guest.state === 'leased';
}

/** Number of leases that a fresh guest can take at once. */
function roomOfFresh(policy: PoolPolicy): number {
  return Math.max(1, Math.min(policy.jobsPerGuest, policy.maxBuilds));
}

/**
 * Grants free slots in the order of waiting. A waiter gets the fullest guest with room, the oldest of equals.
 * A sleeping guest comes last, and its slots are only reserved for the waiter: it will be awake sooner than
 * another one boots. Takes waiters × guests with room at worst, and ends with the room.
 */
function assignLeases(
  guests: readonly GuestView[],
  waiters: readonly WaiterView[],
  policy: PoolPolicy,
): Assignment {
  const leases = new Map(guests.map((guest) => [guest.id, guest.leases]));
  let open: Slots[] = guests
    .filter(isUp)
    .map((guest) => ({ guest, leases: guest.leases, free: freeSlots(guest, policy) }))
    .filter(({ free }) => free > 0)
    .sort((a, b) => a.guest.bornAt - b.guest.bornAt);
  const grants: Step[] = [];
  const unserved: WaiterView[] = [];
  for (const waiter of waiters) {
    const best = fullest(open, waiter);
    if (best === undefined) {
      unserved.push(waiter);
      continue;
    }
    best.leases += 1;
    best.free -= 1;
    if (best.free === 0) open = open.filter((slots) => slots !== best);
    leases.set(best.guest.id, best.leases);
    if (!best.guest.asleep) grants.push({ type: 'grant', waiter: waiter.id, guest: best.guest.id });
  }
  return { grants, leases, unserved };
}

function freeSlots(guest: GuestView, policy: PoolPolicy): number {
  return Math.min(policy.jobsPerGuest - guest.leases, policy.maxBuilds - guest.builds);
}

function fullest(open: readonly Slots[], waiter: WaiterView): Slots | undefined {
  let best: Slots | undefined;
  for (const slots of open) {
    if (best !== undefined && rank(slots) <= rank(best)) continue;
    if (!waiter.avoid.has(slots.guest.id)) best = slots;
  }
  return best;
}

function rank({ guest, leases }: Slots): number {
  return guest.asleep ? -1 : leases;
}

interface Demand {
  readonly boots: number;
  /** Guests that only take a place away from those that the waiters could use. */
  readonly evictions: readonly GuestView[];
}

/**
 * Whether a guest may give the waiter a slot later: one that boots, since its properties are unknown, or one
 * that runs.
 */
function hasProspect(waiter: WaiterView, guests: readonly GuestView[]): boolean {
  return guests.some((guest) => guest.state === 'booting' || (isUp(guest) && !waiter.avoid.has(guest.id)));
}

/**
 * Number of guests to boot for waiters that got no slot and for `warmGuests`. If `maxGuests` prevents that,
 * guests that every waiter avoids go instead.
 * @param guests those that stay
 * @param leases by guest, including those granted in this plan
 */
function demand(
  guests: readonly GuestView[],
  unserved: readonly WaiterView[],
  leases: ReadonlyMap<string, number>,
  snapshot: Snapshot,
  policy: PoolPolicy,
  now: number,
): Demand {
  if (snapshot.shuttingDown) return { boots: 0, evictions: [] };
  const backingOff = now < snapshot.bootNotBefore;
  const needy = backingOff ? unserved.filter((waiter) => !hasProspect(waiter, guests)) : unserved;
  const booting = guests.filter((guest) => guest.state === 'booting').length;
  const up = guests.filter(isUp);
  const forWaiters = Math.ceil(needy.length / roomOfFresh(policy)) - booting;
  const forWarmth = backingOff ? 0 : policy.warmGuests - up.length - booting;
  const alive = snapshot.guests.filter((guest) => isAlive(guest.state));
  const boots = Math.max(0, Math.min(Math.max(forWaiters, forWarmth), policy.maxGuests - alive.length));
  if (forWaiters <= boots) return { boots, evictions: [] };

  const staying = new Set(guests.map((guest) => guest.id));
  const going = alive.filter((guest) => !staying.has(guest.id));
  const gone = going.filter((guest) => (leases.get(guest.id) ?? guest.leases) === 0).length;
  // A waiter that got no slot although a guest is idle avoids that guest.
  const idle = up.filter((guest) => leases.get(guest.id) === 0);
  const evictions = idle.slice(0, Math.max(0, forWaiters - boots - gone));
  if (evictions.length > 0 || going.length > 0 || boots > 0) return { boots, evictions };
  // All places are taken by guests in use. If a waiter can use none of them, one must end.
  const stuck = needy.some((waiter) => !hasProspect(waiter, guests));
  return { boots, evictions: stuck ? leastUsed(up, leases, now) : [] };
}

/** Among equals, the one that was claimed first; its first lease may be granted in this very plan. */
function leastUsed(
  up: readonly GuestView[],
  leases: ReadonlyMap<string, number>,
  now: number,
): readonly GuestView[] {
  const claimedAt = (guest: GuestView): number => (guest.builds === 0 ? now : guest.claimedAt);
  const [first, ...rest] = [...up].sort((a, b) => claimedAt(a) - claimedAt(b));
  if (first === undefined) return [];
  const countOf = (guest: GuestView): number => leases.get(guest.id) ?? 0;
  return [rest.reduce((least, guest) => (countOf(guest) < countOf(least) ? guest : least), first)];
}
