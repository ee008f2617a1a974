import { suits } from './assign.js';
import { byClaim, isUnready, takeableAt, type GuestEntry } from './guest-entry.js';
import type { Domain } from './domain.js';
import type { PoolIndex } from './pool-index.js';
import type { Conditions, RetireReason, Step } from './view.js';
import type { WaiterNode } from './waiter-list.js';

/**
 * Waiters count on a guest that drains for this long, in milliseconds. If its last lease takes longer, another one
 * makes room.
 */
const DRAIN_PATIENCE_MS = 60_000;

/** A step, or the time at which there may be one. */
export type StepOrTime = Step | number | undefined;

export function isStep(next: StepOrTime): next is Step {
  return typeof next === 'object';
}

export interface Demand {
  /** Guests to boot now. */
  readonly boots: number;
  /** Guests that waiters need besides, for which there is no place. */
  readonly unmet: number;
}

/** Whether a guest may serve the waiter some day: one that boots, or one that is up. */
export function hasProspect(node: WaiterNode, index: PoolIndex): boolean {
  if (index.booting > 0) return true;
  const domain = index.domainOf(node);
  if (index.domainOf(node).listOf(node) === domain.plain)
    return index.unclaimed.up > 0 || domain.guests.size > 0;
  for (const guest of index.up) {
    if (guest.domain !== undefined && guest.domain !== domain.name) continue;
    if (suits(guest, node)) return true;
  }
  return false;
}

/** Number of guests to boot, for waiters that got no slot and for `warmGuests`. */
export function demand(
  index: PoolIndex,
  { shuttingDown, bootNotBefore, retryBootAt }: Conditions,
  now: number,
): Demand {
  if (shuttingDown || now < retryBootAt) return { boots: 0, unmet: 0 };
  const { maxGuests, warmGuests } = index.policy;
  const backingOff = now < bootNotBefore;
  const forWaiters = (backingOff ? needOfHopeless(index) : index.need) - index.booting;
  const forWarmth = backingOff ? 0 : warmGuests - index.up.size - index.booting;
  const boots = Math.max(0, Math.min(Math.max(forWaiters, forWarmth), maxGuests - index.alive));
  return { boots, unmet: Math.max(0, forWaiters - boots) };
}

function needOfHopeless(index: PoolIndex): number {
  if (index.booting > 0) return 0;
  let need = 0;
  let hopeless = 0;
  const { isolation } = index.policy;
  for (const domain of index.hungry) {
    const { first } = domain.plain;
    let count = first !== undefined && !hasProspect(first, index) ? domain.plain.size : 0;
    for (const node of domain.picky) {
      if (hasProspect(node, index)) continue;
      if (node.waiter.alone) need += 1;
      else count += 1;
    }
    if (isolation === 'shared') hopeless += count;
    else need += index.guestsFor(count);
  }
  return need + index.guestsFor(hopeless);
}

/** Takes an idle guest's place for waiters that cannot use it; first of all that of a guest with failed builds. */
export function nextEviction(index: PoolIndex, { boots, unmet }: Demand, now: number): StepOrTime {
  if (unmet <= index.ending) return undefined;
  const { first: keeper } = index.keepers;
  if (keeper !== undefined) return { type: 'release', guest: keeper.id };
  let soonest: number | undefined;
  for (const guest of index.idle) {
    if (isWanted(guest, index)) continue;
    const at = takeableAt(guest);
    if (at <= now) return { type: 'drain', guest: guest.id, reason: evictionReason(guest, index) };
    soonest = Math.min(soonest ?? at, at);
  }
  return boots > 0 ? undefined : soonest;
}

/** Whether waiters count on the guest, which cannot serve them yet. */
export function isWanted(guest: GuestEntry, index: PoolIndex): boolean {
  if (!isUnready(guest)) return false;
  return guest.domain === undefined ? index.waiting > 0 : (index.domain(guest.domain)?.waiting ?? 0) > 0;
}

/** A domain's own waiters take its idle guest away only if they avoid it. */
function evictionReason({ domain }: GuestEntry, { hungry }: PoolIndex): RetireReason {
  const others = hungry.size > 1 || hungry.first?.name !== domain;
  return domain !== undefined && others ? 'turn' : 'conflict';
}

/**
 * Drains a guest in use if every place is taken and a waiter cannot proceed: a domain without a guest, or
 * with at least two fewer than another; or a waiter that avoids all guests.
 */
export function nextTurn(index: PoolIndex, { boots, unmet }: Demand, now: number): StepOrTime {
  if (unmet === 0 || boots > 0) return undefined;
  const overdue = index.draining.countWhile(({ drainingSince }) => drainingSince + DRAIN_PATIENCE_MS <= now);
  const coming = index.booting + Math.max(index.ending, index.draining.size - overdue);
  const step = turnOfDomain(index, coming, now) ?? turnOfPicky(index, coming, now);
  if (step !== undefined) return step;
  const next = index.draining.at(overdue);
  return next && next.drainingSince + DRAIN_PATIENCE_MS;
}

function turnOfDomain(index: PoolIndex, coming: number, now: number): StepOrTime {
  const most = index.holders.first;
  if (most === undefined) return undefined;
  let entitled = 0;
  for (const domain of index.hungry) {
    if (domain.guests.size > 0 && most.guests.size - domain.guests.size < 2) return undefined;
    if (domain.need > 0 && ++entitled > coming) return takeFrom(most, 'turn', now);
  }
  return undefined;
}

function turnOfPicky(index: PoolIndex, coming: number, now: number): StepOrTime {
  if (coming > 0) return undefined;
  let stuck: WaiterNode | undefined;
  for (const node of index.picky) {
    if (stuck !== undefined && stuck.waiter.id < node.waiter.id) continue;
    if (!hasProspect(node, index)) stuck = node;
  }
  if (stuck === undefined) return undefined;
  const own = index.domainOf(stuck);
  const most = index.holders.first;
  if (most === undefined) return leastUsed(index.up, 'conflict');
  const fair = own.guests.size > 0 && most.guests.size - own.guests.size < 2;
  return fair ? leastUsed(own.guests, 'conflict') : takeFrom(most, 'turn', now);
}

/** The least used of the domain's guests goes that may be taken from it. */
function takeFrom({ guests }: Domain, reason: RetireReason, now: number): StepOrTime {
  const inUse = [...guests].filter(({ leases }) => leases > 0);
  const takeable = inUse.filter((guest) => takeableAt(guest) <= now);
  if (takeable.length > 0) return leastUsed(takeable, reason);
  return inUse.reduce<number | undefined>(
    (soonest, guest) => Math.min(soonest ?? Infinity, takeableAt(guest)),
    undefined,
  );
}

/** The guest with the fewest leases, of equals the one that was claimed first. */
function leastUsed(guests: Iterable<GuestEntry>, reason: RetireReason): Step | undefined {
  let least: GuestEntry | undefined;
  for (const guest of guests) {
    if (least === undefined || (guest.leases - least.leases || byClaim(guest, least)) < 0) least = guest;
  }
  return least && { type: 'drain', guest: least.id, reason };
}
