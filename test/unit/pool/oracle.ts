import type { StepOrTime } from '../../../src/pool/demand.js';
import type { GuestView, PoolPolicy, RetireReason, Step, WaiterView } from '../../../src/pool/view.js';
import type { Snapshot } from './model.js';

/**
 * The planner once more, written for reading: every question looks at every guest and every waiter. It says what the
 * planner and its indexes must answer.
 */
export function oracleStep(snapshot: Snapshot, policy: PoolPolicy, now: number): StepOrTime {
  return new Oracle(snapshot, policy, now).next();
}

const SILENCE_MS = 10_000;
const WATCH_INTERVAL_MS = 60_000;
const TURN_BOOTS = 5;
const DRAIN_PATIENCE_MS = 60_000;

const isUp = ({ state }: GuestView): boolean => state === 'ready' || state === 'leased';
const isAsked = ({ probing, late }: GuestView): boolean => probing && !late;
const isUnready = ({ asleep, probing }: GuestView): boolean => asleep || probing;
const drain = ({ id }: GuestView, reason: RetireReason): Step => ({ type: 'drain', guest: id, reason });

class Oracle {
  readonly #snapshot: Snapshot;
  readonly #policy: PoolPolicy;
  readonly #now: number;
  readonly #shared: boolean;
  /** Guests that are up, the oldest first. */
  readonly #up: readonly GuestView[];
  readonly #booting: number;
  readonly #draining: readonly GuestView[];
  readonly #slots: number;
  readonly #builds: number;

  constructor(snapshot: Snapshot, policy: PoolPolicy, now: number) {
    this.#snapshot = snapshot;
    this.#policy = policy;
    this.#now = now;
    this.#shared = policy.isolation === 'shared';
    this.#up = snapshot.guests.filter(isUp).sort((a, b) => a.bornAt - b.bornAt);
    this.#booting = snapshot.guests.filter(({ state }) => state === 'booting').length;
    this.#draining = snapshot.guests.filter(({ state }) => state === 'draining');
    [this.#slots, this.#builds] =
      policy.isolation === 'build' ? [1, 1] : [policy.jobsPerGuest, policy.maxBuilds];
  }

  next(): StepOrTime {
    return (
      this.#retirement() ??
      this.#grant() ??
      this.#probe() ??
      this.#watch() ??
      this.#idle() ??
      this.#eviction() ??
      this.#turn() ??
      this.#destroy() ??
      (this.#boots() > 0 ? ({ type: 'boot' } as const) : this.#wakeAt())
    );
  }

  #ownerOf({ domain }: GuestView): string | undefined {
    return this.#shared ? undefined : domain;
  }

  #waitersOf(domain: string): readonly WaiterView[] {
    return this.#snapshot.waiters.filter((waiter) => waiter.domain === domain);
  }

  #guestsOf(domain: string): readonly GuestView[] {
    return this.#up.filter((guest) => this.#ownerOf(guest) === domain);
  }

  /** Domains that wait, the one with the fewest guests first, of equals the one whose turn it is. */
  #hungry(): readonly string[] {
    const count = (domain: string): number => this.#guestsOf(domain).length;
    return [...this.#snapshot.turns].sort((a, b) => count(a) - count(b));
  }

  #free(guest: GuestView): number {
    if (!isUp(guest) || guest.retire !== undefined) return 0;
    return Math.max(0, Math.min(this.#slots - guest.leases, this.#builds - guest.builds));
  }

  #suits(guest: GuestView, { avoid, alone }: WaiterView): boolean {
    return !avoid.has(guest.id) && !(alone && guest.builds > 0);
  }

  #retirement(): Step | undefined {
    const { guests, shuttingDown } = this.#snapshot;
    const staying = guests.filter(({ state }) => state !== 'draining');
    for (const guest of staying) if (guest.retire !== undefined) return drain(guest, guest.retire);
    for (const guest of this.#up)
      if (guest.builds >= this.#builds) return drain(guest, shuttingDown ? 'shutdown' : 'builds');
    if (shuttingDown) return staying[0] && drain(staying[0], 'shutdown');
    const aged = this.#up.find(({ readyAt }) => readyAt + this.#policy.maxAgeMs <= this.#now);
    return aged && drain(aged, 'age');
  }

  #grant(): Step | undefined {
    const ready = this.#up
      .filter((guest) => this.#free(guest) > 0 && !isUnready(guest) && this.#now - guest.seenAt < SILENCE_MS)
      .sort((a, b) => b.leases - a.leases);
    for (const claimed of [true, false]) {
      for (const domain of this.#hungry()) {
        for (const waiter of this.#waitersOf(domain)) {
          const found = ready.find(
            (guest) => this.#ownerOf(guest) === (claimed ? domain : undefined) && this.#suits(guest, waiter),
          );
          if (found !== undefined) return { type: 'grant', waiter: waiter.id, guest: found.id };
        }
      }
    }
    return undefined;
  }

  #unreadyRoom(domain: string | undefined, which = isUnready): number {
    const unready = this.#up.filter((guest) => this.#ownerOf(guest) === domain && which(guest));
    return unready.reduce((sum, guest) => sum + this.#free(guest), 0);
  }

  #guestsFor(waiters: number): number {
    return Math.ceil(Math.max(0, waiters) / Math.max(1, Math.min(this.#slots, this.#builds)));
  }

  /** Guests to boot for these waiters, apart from those that unready guests will serve. */
  #needOf(waiters: readonly WaiterView[], room: number): number {
    const alone = waiters.filter((waiter) => waiter.alone).length;
    return this.#guestsFor(waiters.length - alone - room) + alone;
  }

  /** @param which guests the waiters count on, although they get no lease for now */
  #need(which = isUnready): number {
    if (this.#shared) return this.#needOf(this.#snapshot.waiters, this.#unreadyRoom(undefined, which));
    const needs = this.#snapshot.turns.map((domain) =>
      this.#needOf(this.#waitersOf(domain), this.#unreadyRoom(domain, which)),
    );
    const unready = this.#up.filter(
      (guest) => guest.domain === undefined && which(guest) && this.#free(guest) > 0,
    );
    return Math.max(0, needs.reduce((sum, need) => sum + need, 0) - unready.length);
  }

  #probe(): Step | undefined {
    const silent = this.#up
      .filter((guest) => this.#free(guest) > 0 && !isUnready(guest))
      .filter(({ seenAt }) => this.#now - seenAt >= SILENCE_MS)
      .sort((a, b) => b.leases - a.leases);
    for (const domain of this.#shared ? [] : this.#hungry()) {
      if (this.#waitersOf(domain).length <= this.#unreadyRoom(domain, isAsked)) continue;
      const found = silent.find((guest) => guest.domain === domain);
      if (found !== undefined) return { type: 'probe', guest: found.id };
    }
    const found = silent.find((guest) => this.#ownerOf(guest) === undefined);
    return found !== undefined && this.#need(isAsked) > 0 ? { type: 'probe', guest: found.id } : undefined;
  }

  #watch(): Step | undefined {
    const watched = this.#up
      .filter((guest) => guest.leases > 0 && !isUnready(guest))
      .sort((a, b) => a.seenAt - b.seenAt);
    const due = watched.find(({ seenAt }) => seenAt + WATCH_INTERVAL_MS <= this.#now);
    return due && { type: 'probe', guest: due.id };
  }

  #isWanted(guest: GuestView): boolean {
    if (!isUnready(guest)) return false;
    const owner = this.#ownerOf(guest);
    return (owner === undefined ? this.#snapshot.waiters : this.#waitersOf(owner)).length > 0;
  }

  #idle(): Step | undefined {
    const idle = this.#up.filter(({ leases }) => leases === 0);
    const keep = Math.max(0, this.#policy.warmGuests - (this.#up.length - idle.length));
    const due = idle
      .slice(keep)
      .filter(({ idleSince }) => idleSince + this.#policy.idleTimeoutMs <= this.#now)
      .find((guest) => !this.#isWanted(guest));
    return due && drain(due, 'idle');
  }

  #hasProspect(waiter: WaiterView): boolean {
    if (this.#booting > 0) return true;
    return this.#up.some((guest) => {
      const owner = this.#ownerOf(guest);
      return (owner === undefined || owner === waiter.domain) && this.#suits(guest, waiter);
    });
  }

  #wanted(): { boots: number; unmet: number } {
    const { guests, shuttingDown, bootNotBefore, retryBootAt } = this.#snapshot;
    if (shuttingDown || this.#now < retryBootAt) return { boots: 0, unmet: 0 };
    const backingOff = this.#now < bootNotBefore;
    const forWaiters = (backingOff ? this.#needOfHopeless() : this.#need()) - this.#booting;
    const forWarmth = backingOff ? 0 : this.#policy.warmGuests - this.#up.length - this.#booting;
    const boots = Math.max(
      0,
      Math.min(Math.max(forWaiters, forWarmth), this.#policy.maxGuests - guests.length),
    );
    return { boots, unmet: Math.max(0, forWaiters - boots) };
  }

  #needOfHopeless(): number {
    const hopeless = this.#snapshot.waiters.filter((waiter) => !this.#hasProspect(waiter));
    if (this.#shared) return this.#needOf(hopeless, 0);
    const domains = [...new Set(hopeless.map(({ domain }) => domain))];
    const needs = domains.map((name) =>
      this.#needOf(
        hopeless.filter(({ domain }) => domain === name),
        0,
      ),
    );
    return needs.reduce((sum, need) => sum + need, 0);
  }

  #boots(): number {
    return this.#wanted().boots;
  }

  #takeableAt({ leases, bornAt, readyAt, idleSince, claimedAt }: GuestView): number {
    return leases === 0 ? idleSince + (readyAt - bornAt) : claimedAt + TURN_BOOTS * (readyAt - bornAt);
  }

  /** Idle guests that waiters for whom there is no place cannot use, and from when each may go. */
  #evictable(): readonly { guest: GuestView; at: number }[] {
    const ending = this.#draining.filter(({ leases }) => leases === 0).length;
    if (this.#wanted().unmet <= ending) return [];
    return this.#up
      .filter((guest) => guest.leases === 0 && !this.#isWanted(guest))
      .map((guest) => ({
        guest,
        at: this.#ownerOf(guest) === undefined ? -Infinity : this.#takeableAt(guest),
      }));
  }

  #eviction(): Step | undefined {
    const found = this.#evictable().find(({ at }) => at <= this.#now);
    if (found === undefined) return undefined;
    const owner = this.#ownerOf(found.guest);
    const others = this.#snapshot.turns.some((domain) => domain !== owner);
    return drain(found.guest, owner !== undefined && others ? 'turn' : 'conflict');
  }

  #turn(): Step | undefined {
    const step = this.#turnOrTime();
    return typeof step === 'object' ? step : undefined;
  }

  #turnOrTime(): StepOrTime {
    const { boots, unmet } = this.#wanted();
    if (unmet === 0 || boots > 0) return undefined;
    if (this.#evictable().length > 0) return Math.min(...this.#evictable().map(({ at }) => at));
    const ending = this.#draining.filter(({ leases }) => leases === 0).length;
    const until = this.#draining.map(({ drainingSince }) => drainingSince + DRAIN_PATIENCE_MS);
    const patient = until.filter((at) => at > this.#now);
    const coming = this.#booting + Math.max(ending, patient.length);
    const step = this.#turnOfDomain(coming) ?? this.#turnOfPicky(coming);
    return step ?? (patient.length === 0 ? undefined : Math.min(...patient));
  }

  /** The domain with the most guests, of equals the one that has had one for the longest time. */
  #biggest(): string | undefined {
    const owners = [...new Set(this.#up.map((guest) => this.#ownerOf(guest)))].filter(
      (owner) => owner !== undefined,
    );
    const first = (owner: string): number =>
      Math.min(...this.#guestsOf(owner).map(({ claimedAt }) => claimedAt));
    return owners.sort(
      (a, b) => this.#guestsOf(b).length - this.#guestsOf(a).length || first(a) - first(b),
    )[0];
  }

  #turnOfDomain(coming: number): StepOrTime {
    const biggest = this.#biggest();
    if (biggest === undefined) return undefined;
    const most = this.#guestsOf(biggest).length;
    const entitled = this.#hungry()
      .filter((domain) => this.#guestsOf(domain).length === 0 || most - this.#guestsOf(domain).length >= 2)
      .filter((domain) => this.#needOf(this.#waitersOf(domain), this.#unreadyRoom(domain)) > 0);
    return entitled.length > coming ? this.#takeFrom(biggest) : undefined;
  }

  #turnOfPicky(coming: number): StepOrTime {
    if (coming > 0) return undefined;
    const usable = this.#snapshot.guests.filter(({ state }) => state !== 'draining');
    const isPicky = ({ alone, avoid }: WaiterView): boolean =>
      alone || usable.some(({ id }) => avoid.has(id));
    const stuck = this.#snapshot.waiters.find((waiter) => isPicky(waiter) && !this.#hasProspect(waiter));
    if (stuck === undefined) return undefined;
    const biggest = this.#biggest();
    if (biggest === undefined) return leastUsed(this.#up, 'conflict');
    const own = this.#guestsOf(stuck.domain);
    return own.length > 0 && this.#guestsOf(biggest).length - own.length < 2
      ? leastUsed(own, 'conflict')
      : this.#takeFrom(biggest);
  }

  #takeFrom(domain: string): StepOrTime {
    const inUse = this.#guestsOf(domain).filter(({ leases }) => leases > 0);
    const takeable = inUse.filter((guest) => this.#takeableAt(guest) <= this.#now);
    if (takeable.length > 0) return leastUsed(takeable, 'turn');
    return inUse.length === 0 ? undefined : Math.min(...inUse.map((guest) => this.#takeableAt(guest)));
  }

  #destroy(): Step | undefined {
    const ended = this.#draining.find(({ leases, stopping }) => leases === 0 && !stopping);
    return ended && { type: 'destroy', guest: ended.id };
  }

  #wakeAt(): number | undefined {
    const { maxAgeMs, idleTimeoutMs } = this.#policy;
    const { bootNotBefore, retryBootAt } = this.#snapshot;
    const turn = this.#turnOrTime();
    const times = [
      bootNotBefore,
      retryBootAt,
      ...(typeof turn === 'number' ? [turn] : []),
      ...this.#up.map(({ readyAt }) => readyAt + maxAgeMs),
      ...this.#up
        .filter((guest) => guest.leases > 0 && !isUnready(guest))
        .map(({ seenAt }) => seenAt + WATCH_INTERVAL_MS),
      ...this.#up.filter(({ leases }) => leases === 0).map(({ idleSince }) => idleSince + idleTimeoutMs),
    ].filter((time) => time > this.#now);
    return times.length === 0 ? undefined : Math.min(...times);
  }
}

/** The one with the fewest leases, of equals the one that was claimed first. */
function leastUsed(guests: readonly GuestView[], reason: RetireReason): Step | undefined {
  const [least] = [...guests].sort((a, b) => a.leases - b.leases || a.claimedAt - b.claimedAt);
  return least && drain(least, reason);
}
