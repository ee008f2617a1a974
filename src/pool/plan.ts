import { nextGrant, nextProbe } from './assign.js';
import { demand, isWanted, isStep, nextEviction, nextTurn, type StepOrTime } from './demand.js';
import { agedAt, idledAt, watchAt, type GuestEntry } from './guest-entry.js';
import type { PoolIndex } from './pool-index.js';
import type { Conditions, RetireReason, Step } from './view.js';

/**
 * Returns the next step for the current state, or the time to look again if nothing happens before. Pure, so
 * that scaling can be tried without a clock or a guest. Applying each step and asking again comes to rest.
 *
 * The order matters. Guests that must get no more leases drain first; then waiters get slots; only then are
 * idle guests dropped and places counted. Steps that reach the driver come last.
 */
export function nextStep(index: PoolIndex, conditions: Conditions, now: number): StepOrTime {
  const step =
    nextRetirement(index, conditions, now) ??
    nextGrant(index, now) ??
    nextProbe(index, now) ??
    nextWatch(index, now);
  if (step !== undefined) return step;
  const idle = nextIdle(index, now);
  if (isStep(idle)) return idle;
  const wanted = demand(index, conditions, now);
  const eviction = nextEviction(index, wanted, now);
  if (isStep(eviction)) return eviction;
  // An idle guest that makes room before long spares one that is in use.
  const turn = eviction ?? nextTurn(index, wanted, now);
  if (isStep(turn)) return turn;
  const [ended] = index.destroyable;
  if (ended !== undefined) return { type: 'destroy', guest: ended.id };
  if (wanted.boots > 0) return { type: 'boot' };
  const { bootNotBefore, retryBootAt } = conditions;
  return soonestAfter(now, [idle, turn, bootNotBefore, retryBootAt, ageOfNext(index), watchOfNext(index)]);
}

function soonestAfter(now: number, times: readonly (number | undefined)[]): number | undefined {
  let soonest: number | undefined;
  for (const time of times) if (time !== undefined && time > now) soonest = Math.min(soonest ?? time, time);
  return soonest;
}

function nextRetirement(index: PoolIndex, { shuttingDown }: Conditions, now: number): Step | undefined {
  const [retiring] = index.retiring;
  if (retiring !== undefined)
    return drain(retiring, retiring.retire ?? (shuttingDown ? 'shutdown' : 'builds'));
  if (shuttingDown) {
    for (const guest of index.guests) if (guest.state !== 'draining') return drain(guest, 'shutdown');
    return undefined;
  }
  const { first } = index.up;
  return first !== undefined && agedAt(first, index.policy) <= now ? drain(first, 'age') : undefined;
}

function ageOfNext({ up, policy }: PoolIndex): number | undefined {
  return up.first && agedAt(up.first, policy);
}

/** A guest in use that has not answered for a while is asked for a sign of life. */
function nextWatch({ watched: { first } }: PoolIndex, now: number): Step | undefined {
  return first !== undefined && watchAt(first) <= now ? { type: 'probe', guest: first.id } : undefined;
}

function watchOfNext({ watched: { first } }: PoolIndex): number | undefined {
  return first && watchAt(first);
}

/** Guests beyond `warmGuests` that have been idle for long enough; the oldest stay. */
function nextIdle(index: PoolIndex, now: number): StepOrTime {
  const { idle, idleByTime, up, policy } = index;
  const due = idleByTime.countWhile((guest) => idledAt(guest, policy) <= now);
  const keep = Math.max(0, policy.warmGuests - (up.size - idle.size));
  if (due > 0) {
    for (let place = keep; place < idle.size; place++) {
      const guest = idle.at(place);
      if (guest !== undefined && idledAt(guest, policy) <= now && !isWanted(guest, index))
        return drain(guest, 'idle');
    }
  }
  // A guest that is kept although its time has passed needs no waking.
  const next = idleByTime.at(due);
  return next && idledAt(next, policy);
}

function drain({ id }: GuestEntry, reason: RetireReason): Step {
  return { type: 'drain', guest: id, reason };
}
