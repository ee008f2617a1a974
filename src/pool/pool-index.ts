import { byHolding, byShare, Domain } from './domain.js';
import {
  byAge,
  byBirth,
  byDraining,
  byIdleTime,
  byPacking,
  bySilence,
  entryOf,
  isAsked,
  isUnready,
  isUnused,
  isUp,
  roomOfFresh,
  type GuestEntry,
} from './guest-entry.js';
import { moveEntry, type Membership } from './membership.js';
import { SortedList } from './sorted-list.js';
import type { GuestView, PoolPolicy, WaiterView } from './view.js';
import type { WaiterNode } from './waiter-list.js';

/**
 * Guests and waiters, indexed by everything that the planner asks for, so that a decision costs the same however many
 * there are. The planner reads it; the pool, the single writer, tells it of each change.
 */
export class PoolIndex {
  readonly policy: PoolPolicy;
  readonly #guests = new Map<string, GuestEntry>();
  readonly #waiters = new Map<number, WaiterNode>();
  readonly #picky = new Set<WaiterNode>();
  readonly #domains = new Map<string, Domain>();
  #orders = 0;
  #turns = 0;

  /** Guests that boot. */
  booting = 0;
  /** Guests that are up, the oldest first by age. */
  readonly up = new SortedList<GuestEntry>(byAge);
  /** Guests that are up and must get no more leases. */
  readonly retiring = new Set<GuestEntry>();
  /** Idle guests, the oldest first, and those idle for the longest time first. */
  readonly idle = new SortedList<GuestEntry>(byBirth);
  readonly idleByTime = new SortedList<GuestEntry>(byIdleTime);
  /** Unused guests that stay for failed builds only, those unused for the longest time first. */
  readonly keepers = new SortedList<GuestEntry>(byIdleTime);
  /** Guests in use, those that have been silent for the longest time first. */
  readonly watched = new SortedList<GuestEntry>(bySilence);
  /**
   * Guests that drain, those that began first at the beginning; how many are unused; which are not stopping.
   */
  readonly draining = new SortedList<GuestEntry>(byDraining);
  ending = 0;
  readonly destroyable = new Set<GuestEntry>();
  /** Guests that serve any domain: all, where guests are shared. */
  readonly unclaimed = {
    up: 0,
    unready: 0,
    unreadyRoom: 0,
    asked: 0,
    askedRoom: 0,
    open: new SortedList<GuestEntry>(byPacking),
  };

  readonly #memberships: readonly Membership[] = [
    { list: this.up, has: isUp, order: byAge },
    { list: this.idle, has: (entry) => isUp(entry) && isUnused(entry) && entry.kept === 0, order: byBirth },
    {
      list: this.idleByTime,
      has: (entry) => isUp(entry) && isUnused(entry) && entry.kept === 0,
      order: byIdleTime,
    },
    {
      list: this.keepers,
      has: (entry) =>
        (isUp(entry) || entry.state === 'draining') && isUnused(entry) && entry.kept > 0 && !entry.stopping,
      order: byIdleTime,
    },
    {
      list: this.watched,
      has: (entry) => isUp(entry) && !isUnused(entry) && !isUnready(entry),
      order: bySilence,
    },
    {
      list: this.unclaimed.open,
      has: (entry) => entry.free > 0 && entry.domain === undefined && isUp(entry),
      order: byPacking,
    },
    { list: this.draining, has: ({ state }) => state === 'draining', order: byDraining },
    {
      list: this.destroyable,
      has: (entry) => entry.state === 'draining' && isUnused(entry) && entry.kept === 0 && !entry.stopping,
    },
    {
      list: this.retiring,
      has: (entry) =>
        entry.state !== 'draining' && (entry.retire !== undefined || (isUp(entry) && this.#isSpent(entry))),
    },
  ];

  /** Domains that wait, by their share of guests, and those that have guests. */
  readonly hungry = new SortedList<Domain>(byShare);
  readonly holders = new SortedList<Domain>(byHolding);
  /** Domains that wait although a guest of theirs has free slots. */
  readonly servable = new Set<Domain>();
  #need = 0;
  #wanted = 0;
  #alone = 0;

  constructor(policy: PoolPolicy) {
    this.policy = policy;
  }

  get alive(): number {
    return this.#guests.size;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /** In the order of arrival. */
  get waiters(): Iterable<WaiterView> {
    return [...this.#waiters.values()].map(({ waiter }) => waiter);
  }

  get picky(): Iterable<WaiterNode> {
    return this.#picky;
  }

  get guests(): Iterable<GuestEntry> {
    return this.#guests.values();
  }

  /** Guests to boot so that each waiter has a slot, those that boot already included. */
  get need(): number {
    const { unready, unreadyRoom } = this.unclaimed;
    if (this.policy.isolation !== 'shared') return Math.max(0, this.#need - unready);
    return this.guestsFor(this.waiting - this.#alone - unreadyRoom) + this.#alone;
  }

  /** Whether waiters need more guests than those that have been asked for a sign of life. Sleepers may take long. */
  get wantsMoreAsked(): boolean {
    const { asked, askedRoom } = this.unclaimed;
    if (this.policy.isolation !== 'shared') return this.#wanted > asked;
    return this.#alone > 0 || this.waiting > askedRoom;
  }

  domain(name: string): Domain | undefined {
    return this.#domains.get(name);
  }

  domainOf({ waiter }: WaiterNode): Domain {
    return this.#domainNamed(waiter.domain);
  }

  waiter(id: number): WaiterNode | undefined {
    return this.#waiters.get(id);
  }

  addWaiter(waiter: WaiterView): void {
    const usable = [...waiter.avoid].filter((id) => this.#guests.get(id)?.state !== 'draining');
    const avoid = usable.filter((id) => this.#guests.has(id));
    const node: WaiterNode = {
      waiter,
      avoid: avoid.length === 0 ? undefined : new Set(avoid),
      previous: undefined,
      next: undefined,
    };
    this.#waiters.set(waiter.id, node);
    this.#change(waiter.domain, (domain) => {
      if (domain.waiting === 0) domain.turn = ++this.#turns;
      this.#link(domain, node);
      if (waiter.alone) domain.alone += 1;
    });
    if (waiter.alone) this.#alone += 1;
  }

  removeWaiter(id: number): void {
    const node = this.#waiters.get(id);
    if (node === undefined) return;
    const { waiter } = node;
    this.#waiters.delete(id);
    this.#change(waiter.domain, (domain) => {
      this.#unlink(domain, node);
      if (waiter.alone) domain.alone -= 1;
    });
    if (waiter.alone) this.#alone -= 1;
  }

  /** Puts the domain last in turn. */
  endTurn(name: string): void {
    this.#change(name, (domain) => {
      domain.turn = ++this.#turns;
    });
  }

  /** Adds a guest, or takes note of what has changed about it. */
  putGuest(view: GuestView): void {
    const before = this.#guests.get(view.id);
    const after = entryOf(view, before?.order ?? this.#orders++, this.policy);
    const drains = after.state === 'draining' && before?.state !== 'draining';
    if (before?.domain === after.domain) this.#update(before, after);
    else {
      this.#update(before, undefined);
      this.#update(undefined, after);
    }
    if (before?.domain !== after.domain || before === undefined) this.#guests.set(view.id, after);
    if (drains) this.#forgetAvoided(view.id);
  }

  removeGuest(id: string): void {
    const entry = this.#guests.get(id);
    if (entry === undefined) return;
    this.#guests.delete(id);
    this.#update(entry, undefined);
    this.#forgetAvoided(id);
  }

  /** Brings every index up to date. @param after what has become of the guest, in the same domain */
  #update(entry: GuestEntry | undefined, after: GuestEntry | undefined): void {
    if (entry !== undefined) this.#tally(entry, -1);
    if (after !== undefined) this.#tally(after, 1);
    const name = (entry ?? after)?.domain;
    if (name === undefined) moveEntry(this.#memberships, entry, after);
    else
      this.#change(name, (domain) => {
        if (entry !== undefined) domain.tally(entry, -1);
        if (after !== undefined) domain.tally(after, 1);
        moveEntry([...this.#memberships, ...domain.memberships], entry, after);
      });
  }

  #tally(entry: GuestEntry, by: 1 | -1): void {
    if (entry.state === 'booting') this.booting += by;
    if (entry.state === 'draining' && isUnused(entry) && entry.kept === 0) this.ending += by;
    if (entry.domain !== undefined || !isUp(entry)) return;
    this.unclaimed.up += by;
    if (entry.free === 0 || !isUnready(entry)) return;
    this.unclaimed.unready += by;
    this.unclaimed.unreadyRoom += by * entry.free;
    if (!isAsked(entry)) return;
    this.unclaimed.asked += by;
    this.unclaimed.askedRoom += by * entry.free;
  }

  #isSpent({ builds }: GuestEntry): boolean {
    const { isolation, maxBuilds } = this.policy;
    return builds >= (isolation === 'build' ? 1 : maxBuilds);
  }

  /** Changes a domain and everything that is sorted or summed by it. */
  #change(name: string, change: (domain: Domain) => void): void {
    const domain = this.#domainNamed(name);
    this.hungry.delete(domain);
    this.holders.delete(domain);
    change(domain);
    if (domain.waiting > 0) this.hungry.add(domain);
    if (domain.guests.size > 0) this.holders.add(domain);
    if (domain.waiting > 0 && domain.open.size > 0) this.servable.add(domain);
    else this.servable.delete(domain);
    const { waiting, alone, unreadyRoom, askedRoom } = domain;
    this.#need -= domain.need;
    this.#wanted -= domain.wanted;
    domain.need = this.guestsFor(waiting - alone - unreadyRoom) + alone;
    domain.wanted = this.guestsFor(waiting - alone - askedRoom) + alone;
    this.#need += domain.need;
    this.#wanted += domain.wanted;
    if (domain.waiting === 0 && domain.guests.size === 0) this.#domains.delete(name);
  }

  #domainNamed(name: string): Domain {
    let domain = this.#domains.get(name);
    if (domain === undefined) this.#domains.set(name, (domain = new Domain(name)));
    return domain;
  }

  /** Guests that so many waiters fill. */
  guestsFor(waiters: number): number {
    return Math.ceil(Math.max(0, waiters) / roomOfFresh(this.policy));
  }

  #link(domain: Domain, node: WaiterNode): void {
    const list = domain.listOf(node);
    list.add(node);
    if (list === domain.picky) this.#picky.add(node);
  }

  #unlink(domain: Domain, node: WaiterNode): void {
    domain.listOf(node).delete(node);
    this.#picky.delete(node);
  }

  /** The guest has no sessions left: waiters that avoid it may be equal to others now. */
  #forgetAvoided(id: string): void {
    for (const node of this.#picky) {
      if (node.avoid?.has(id) !== true) continue;
      const domain = this.domainOf(node);
      this.#unlink(domain, node);
      node.avoid.delete(id);
      this.#link(domain, node);
    }
  }
}
