import { isUp, roomOfFresh } from './assign.js';
import type { GuestView, PoolPolicy, Snapshot, WaiterView } from './view.js';
import { isAlive } from './state.js';

export interface Demand {
  readonly boots: number;
  /** Guests that only take a place away from those that the waiters could use. */
  readonly evictions: readonly GuestView[];
}

/** Whether a guest may give the waiter a slot some day: one that boots, since nobody knows it yet, or one that runs. */
export function hasProspect(waiter: WaiterView, guests: readonly GuestView[]): boolean {
  return guests.some((guest) => guest.state === 'booting' || (isUp(guest) && !waiter.avoid.has(guest.id)));
}

/**
 * How many guests to boot for waiters that got no slot and for `warmGuests`. Where `maxGuests` stands in the way, guests
 * that every waiter avoids go instead.
 * @param guests that are not about to go
 * @param leases by guest, those granted in this plan included
 */
export function demand(
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
  // All places are taken by guests in use. One of them must end its work if somebody can use none of them.
  const stuck = needy.some((waiter) => !hasProspect(waiter, guests));
  return { boots, evictions: stuck ? leastUsed(up, leases) : [] };
}

function leastUsed(up: readonly GuestView[], leases: ReadonlyMap<string, number>): readonly GuestView[] {
  const [first, ...rest] = up;
  if (first === undefined) return [];
  const countOf = (guest: GuestView): number => leases.get(guest.id) ?? 0;
  return [rest.reduce((least, guest) => (countOf(guest) < countOf(least) ? guest : least), first)];
}
