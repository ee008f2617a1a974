import { assignLeases, isUp } from './assign.js';
import { demand } from './demand.js';
import type { GuestView, Plan, PoolPolicy, RetireReason, Snapshot, Step } from './view.js';

/**
 * What to do next, given how things are: pure, so that scaling can be tried without a clock or a guest. Applying the
 * steps and planning again must come to rest: no step may make the same step necessary again.
 *
 * Packing: a waiter gets the fullest guest that has room, the oldest of equals, so that others can become idle. Guests
 * are booted only for waiters that neither a running nor a booting guest has room for, and for `warmGuests`.
 *
 * Grants come first: what the later steps make of a driver cannot make a waiter leave that is yet to get its lease.
 */
export function plan(snapshot: Snapshot, policy: PoolPolicy, now: number): Plan {
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
  return {
    steps: [...grants, ...drains, ...destroys, ...Array<Step>(boots).fill({ type: 'boot' })],
    wakeAt: nextWake(snapshot.guests.filter(staying), leases, snapshot, policy, now),
  };
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
  if (now >= agedAt(guest, policy)) return 'age';
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
  return idle.slice(keep).filter((guest) => now >= idledAt(guest, policy));
}

// What is due, and when to look again, must be the same sum: rounded otherwise, neither might come true.
function agedAt(guest: GuestView, policy: PoolPolicy): number {
  return guest.readyAt + policy.maxAgeMs;
}

function idledAt(guest: GuestView, policy: PoolPolicy): number {
  return guest.idleSince + policy.idleTimeoutMs;
}

function nextWake(
  guests: readonly GuestView[],
  leases: ReadonlyMap<string, number>,
  snapshot: Snapshot,
  policy: PoolPolicy,
  now: number,
): number | undefined {
  const times = [
    snapshot.bootNotBefore,
    ...guests
      .filter(isUp)
      .flatMap((guest) => [
        agedAt(guest, policy),
        ...(leases.get(guest.id) === 0 ? [idledAt(guest, policy)] : []),
      ]),
  ];
  // An idle guest that is kept warm has passed its time already, and needs no waking.
  const future = times.filter((time) => time > now);
  return future.length === 0 ? undefined : future.reduce((a, b) => Math.min(a, b));
}
