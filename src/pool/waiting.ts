import type { Domain } from './domain.js';
import type { PoolIndex } from './pool-index.js';
import type { Conditions } from './view.js';
import type { WaiterNode } from './waiter-list.js';
import { count } from '../lib/human.js';

/** Number of sessions that are served before the waiter, if slots free up one at a time. */
export function countBefore(node: WaiterNode, index: PoolIndex): number {
  const own = index.domainOf(node);
  let before = 0;
  for (const list of [own.plain, own.picky]) {
    for (const { waiter } of list) {
      if (waiter.id >= node.waiter.id) break;
      before += 1;
    }
  }
  if (index.policy.isolation === 'client') return before;
  // Domains take turns at the same slots.
  const rounds = before;
  for (const other of index.hungry) {
    if (other !== own) before += Math.min(other.waiting, other.turn < own.turn ? rounds + 1 : rounds);
  }
  return before;
}

/** Why the domain's sessions wait, for people. */
export function whyWaiting(
  domain: Domain,
  index: PoolIndex,
  { retryBootAt, bootNotBefore }: Conditions,
  now: number,
): string {
  if (retryBootAt === Infinity) return 'all guests were drained; drover resume ends this';
  const { unclaimed, draining, policy } = index;
  const shared = policy.isolation === 'shared';
  const unready = shared ? unclaimed.unreadyRoom : domain.unreadyRoom + unclaimed.unready;
  if (index.booting > 0 && index.need <= index.booting) return 'a guest is booting';
  if (unready > 0) return 'a guest has not answered since the host slept or the guest fell silent';
  const serving = shared ? index.up.size : domain.guests.size;
  if (serving === 0 && index.booting === 0 && now < Math.max(retryBootAt, bootNotBefore))
    return 'guests do not boot';
  const places = `${index.alive} of ${count(policy.maxGuests, 'guest')}`;
  const full = index.alive === 1 ? 'is full' : 'are full';
  const busy = index.alive === 1 ? 'serves other clients' : 'serve other clients';
  if (shared || serving === index.alive) return `${places} ${full}`;
  if (serving > 0) return `${places} ${full} or ${busy}`;
  return draining.size > 0 ? 'a guest is ending to make room' : `${places} ${busy}`;
}
