import type { GuestView, PoolPolicy, Step, WaiterView } from './view.js';

export interface Assignment {
  readonly grants: readonly Step[];
  /** Leases by guest, included those that are granted now, and those that are kept for waiters until the guest is awake. */
  readonly leases: ReadonlyMap<string, number>;
  readonly unserved: readonly WaiterView[];
}

interface Slots {
  readonly guest: GuestView;
  leases: number;
  free: number;
}

export function isUp(guest: GuestView): boolean {
  return guest.state === 'ready' || guest.state === 'leased';
}

/** How many leases a fresh guest is good for at once. */
export function roomOfFresh(policy: PoolPolicy): number {
  return Math.max(1, Math.min(policy.jobsPerGuest, policy.maxBuilds));
}

/**
 * Hands free slots out in the order of waiting. A waiter gets the fullest guest that has room, the oldest of equals. One
 * that is asleep comes last, and its slots are only kept for who waits: it will be awake sooner than another one boots.
 * Takes waiters × guests with room at worst, and ends with the room.
 */
export function assignLeases(
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
