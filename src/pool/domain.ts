import { byClaim, byPacking, isAsked, isUnready, isUp, type GuestEntry } from './guest-entry.js';
import type { Membership } from './membership.js';
import { SortedList } from './sorted-list.js';
import { WaiterList, type WaiterNode } from './waiter-list.js';

/** One trust domain: who waits in it, and the guests that serve it. */
export class Domain {
  readonly name: string;
  /** Waiters that every guest of the domain can serve. */
  readonly plain = new WaiterList();
  /** Waiters that avoid a guest or need one for themselves: few. */
  readonly picky = new WaiterList();
  /** Guests that are up and serve this domain, the first claimed first. */
  readonly guests = new SortedList<GuestEntry>(byClaim);
  /** Those of them that have free slots, the fullest first. */
  readonly open = new SortedList<GuestEntry>(byPacking);
  /** Free slots of guests that are asleep or have been asked for a sign of life. */
  unreadyRoom = 0;
  /** Free slots of guests whose answer to a probe is expected at any moment. */
  askedRoom = 0;
  /** Waiters of the picky ones that need a guest for themselves. */
  alone = 0;
  /** Guests to boot so that each waiter has a slot. */
  need = 0;
  /** Guests that each waiter's slot takes, apart from those that have been asked. */
  wanted = 0;
  /** Whose turn is first: increases each time that a domain begins to wait, is granted a guest, or gives one up. */
  turn = 0;

  readonly memberships: readonly Membership[] = [
    { list: this.guests, has: isUp, order: byClaim },
    { list: this.open, has: (entry) => entry.free > 0 && isUp(entry), order: byPacking },
  ];

  constructor(name: string) {
    this.name = name;
  }

  tally(entry: GuestEntry, by: 1 | -1): void {
    if (!isUp(entry)) return;
    if (isUnready(entry)) this.unreadyRoom += by * entry.free;
    if (isAsked(entry)) this.askedRoom += by * entry.free;
  }

  get waiting(): number {
    return this.plain.size + this.picky.size;
  }

  listOf({ avoid, waiter }: WaiterNode): WaiterList {
    return waiter.alone || (avoid !== undefined && avoid.size > 0) ? this.picky : this.plain;
  }
}

/** The domain with the fewest guests first, of equals the one whose turn it is. */
export function byShare(a: Domain, b: Domain): number {
  return a.guests.size - b.guests.size || a.turn - b.turn;
}

/** The domain with the most guests first, of equals the one that has had one for the longest time. */
export function byHolding(a: Domain, b: Domain): number {
  const [first, second] = [a.guests.first, b.guests.first];
  if (first === undefined || second === undefined) return b.guests.size - a.guests.size;
  return b.guests.size - a.guests.size || byClaim(first, second);
}
