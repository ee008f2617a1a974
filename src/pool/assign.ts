import type { Domain } from './domain.js';
import { isReady, isSilent, type GuestEntry } from './guest-entry.js';
import type { PoolIndex } from './pool-index.js';
import type { SortedList } from './sorted-list.js';
import type { Step } from './view.js';
import type { WaiterNode } from './waiter-list.js';

/** Whether a guest of the waiter's domain, or of none, can serve it. */
export function suits({ id, builds }: GuestEntry, { waiter, avoid }: WaiterNode): boolean {
  return avoid?.has(id) !== true && !(waiter.alone && builds > 0);
}

/**
 * Grants a free slot. In each domain the first waiter that can be served is; it gets the fullest guest, the oldest of
 * equals, so that others can become idle. A guest that has no domain goes to the one with the fewest guests, of equals
 * to the one whose turn it is: that alone decides where guests are shared.
 */
export function nextGrant(index: PoolIndex, now: number): Step | undefined {
  for (const domain of index.servable) {
    const step = grantTo(domain, domain.open, now);
    if (step !== undefined) return step;
  }
  const { open } = index.unclaimed;
  if (firstOf(open, (guest) => isReady(guest, now)) === undefined) return undefined;
  for (const domain of index.hungry) {
    const step = grantTo(domain, open, now);
    if (step !== undefined) return step;
  }
  return undefined;
}

function grantTo(domain: Domain, open: SortedList<GuestEntry>, now: number): Step | undefined {
  const { first } = domain.plain;
  const forFirst = first && firstOf(open, (guest) => isReady(guest, now));
  for (const node of domain.picky) {
    if (first !== undefined && forFirst !== undefined && first.waiter.id < node.waiter.id) break;
    const guest = firstOf(open, (candidate) => isReady(candidate, now) && suits(candidate, node));
    if (guest !== undefined) return { type: 'grant', waiter: node.waiter.id, guest: guest.id };
  }
  if (first === undefined || forFirst === undefined) return undefined;
  return { type: 'grant', waiter: first.waiter.id, guest: forFirst.id };
}

/**
 * Asks a guest for a sign of life: one that waiters need and that has not answered for a while, or one in use. Waiters
 * count on the guests that have been asked, so no more are asked than they need.
 */
export function nextProbe(index: PoolIndex, now: number): Step | undefined {
  const silent = (guest: GuestEntry): boolean => isSilent(guest, now);
  for (const domain of index.servable) {
    if (domain.waiting <= domain.askedRoom) continue;
    const guest = firstOf(domain.open, silent);
    if (guest !== undefined) return { type: 'probe', guest: guest.id };
  }
  if (!index.wantsMoreAsked) return undefined;
  const guest = firstOf(index.unclaimed.open, silent);
  return guest && { type: 'probe', guest: guest.id };
}

function firstOf(
  guests: SortedList<GuestEntry>,
  fits: (guest: GuestEntry) => boolean,
): GuestEntry | undefined {
  for (const guest of guests) if (fits(guest)) return guest;
  return undefined;
}
