import { describe, expect, test } from '@jest/globals';

import type { PoolEvent } from '../../../src/pool/events.js';
import type { PoolOptions } from '../../../src/pool/pool.js';
import type { Isolation } from '../../../src/pool/view.js';
import { settled } from '../../support/fake-clock.js';
import { Harness, type Session } from './harness.js';
import fc from '../../support/property.js';

/** As in src/pool/guest-entry.ts. */
const SILENCE_MS = 10_000;

const options: fc.Arbitrary<PoolOptions> = fc
  .record({
    maxGuests: fc.integer({ min: 1, max: 3 }),
    warmGuests: fc.integer({ min: 0, max: 3 }),
    jobsPerGuest: fc.integer({ min: 1, max: 3 }),
    isolation: fc.constantFrom<Isolation[]>('client', 'build', 'shared'),
    idleTimeoutMs: fc.constantFrom(0, 1000, 60_000),
    maxBuilds: fc.integer({ min: 1, max: 6 }),
    maxAgeMs: fc.constantFrom(1000, 100_000, 10_000_000),
    bootTimeoutMs: fc.constantFrom(500, 30_000),
  })
  .map((drawn) => ({ ...drawn, warmGuests: Math.min(drawn.warmGuests, drawn.maxGuests) }));

/** A pool, and what must be true of it whatever has happened. */
class Checked {
  readonly harness: Harness;
  readonly rules: PoolOptions;
  readonly all: Session[] = [];
  /** Leases that their holders have not returned. */
  held: Session[] = [];
  /** Whom each guest has served. */
  readonly served = new Map<string, Set<string>>();
  /** Guests that may be asleep, as far as the pool knows, or that hang. */
  readonly sleepy = new Set<string>();
  shuttingDown = false;
  drained = false;

  constructor(rules: PoolOptions) {
    this.rules = rules;
    this.harness = new Harness(rules);
    this.harness.pool.start();
  }

  /** Lets what follows happen, and looks. */
  async check(): Promise<void> {
    await settled();
    const { pool, driver, events } = this.harness;
    this.held = this.all.filter((session) => session.lease !== undefined && !returned.has(session));
    const { guests, waiting, leases, failedBoots } = pool.snapshot();
    const avoids = (session: Session): ReadonlySet<string> => avoided.get(session) ?? new Set();

    expect(guests.length).toBeLessThanOrEqual(this.rules.maxGuests);
    expect(driver.alive).toBe(guests.length);
    for (const { leases: count, state, builds } of guests) {
      expect(count).toBeGreaterThanOrEqual(0);
      expect(count).toBeLessThanOrEqual(this.rules.jobsPerGuest);
      expect(builds).toBeLessThanOrEqual(this.rules.maxBuilds);
      if (state === 'leased') expect(count).toBeGreaterThan(0);
      if (state === 'ready' || state === 'booting') expect(count).toBe(0);
    }
    const there = new Set(guests.map(({ id }) => id));
    expect(leases).toBe(this.held.filter(({ state }) => there.has(state)).length);
    expect(waiting).toBe(this.all.filter(({ state }) => state === 'waiting').length);
    for (const session of this.held) {
      expect(session.lease?.guest.lost.aborted).toBe(!there.has(session.state));
      expect(avoids(session).has(session.state)).toBe(false);
      const served = this.served.get(session.state) ?? new Set();
      this.served.set(session.state, served.add(domainOf(session)));
    }
    if (this.rules.isolation !== 'shared')
      for (const served of this.served.values()) expect(served.size).toBe(1);
    const hangs = guests.some(({ id }) => this.sleepy.has(id));
    const open = guests
      .filter(({ state }) => state === 'ready' || state === 'leased')
      .filter(({ leases: count }) => count < this.rules.jobsPerGuest)
      .filter(({ builds }) => builds < (this.rules.isolation === 'build' ? 1 : this.rules.maxBuilds))
      .filter(({ id }) => !this.sleepy.has(id))
      // After a silence, guests are asked first, no more at a time than are needed: one that hangs makes others wait.
      .filter(({ idleSeconds }) => !hangs || idleSeconds * 1000 < SILENCE_MS);
    for (const session of this.all.filter(({ state }) => state === 'waiting')) {
      const usable = open
        .filter(
          ({ domain }) =>
            this.rules.isolation === 'shared' || (domain ?? domainOf(session)) === domainOf(session),
        )
        .filter(({ builds }) => builds === 0 || !alone.has(session));
      expect(usable.filter(({ id }) => !avoids(session).has(id))).toEqual([]);
      // A guest is coming, going or in use, or another boot will be tried.
      expect(guests.length > 0 || failedBoots !== null).toBe(true);
    }
    checkEvents(events, waiting, this.held.length);
    if (this.shuttingDown) {
      expect(waiting).toBe(0);
      expect(guests.every(({ state }) => state === 'draining')).toBe(true);
      expect(this.drained).toBe(guests.length === 0);
    }
  }
}

const returned = new WeakSet<Session>();
const avoided = new WeakMap<Session, ReadonlySet<string>>();
const alone = new WeakSet<Session>();
const domains = new WeakMap<Session, string>();

function domainOf(session: Session): string {
  return domains.get(session) ?? '';
}

function checkEvents(events: readonly PoolEvent[], waiting: number, held: number): void {
  const count = (type: PoolEvent['type']): number => events.filter((event) => event.type === type).length;
  expect(count('lease-waiting')).toBe(count('lease-granted') + count('lease-refused') + waiting);
  expect(count('lease-granted')).toBe(count('lease-returned') + held);
  const states = new Map<string, string>();
  for (const event of events) {
    if (event.type !== 'guest-state') continue;
    expect(states.get(event.guest)).toBe(event.from);
    states.set(event.guest, event.to);
  }
}

type Action = (checked: Checked, pick: number) => Promise<void> | void;
const at = <T>(items: readonly T[], pick: number): T | undefined => items[pick % Math.max(1, items.length)];

const ACTIONS: Readonly<Record<string, Action>> = {
  lease: ({ harness, all }, pick) => {
    const avoid = pick % 3 === 0 ? harness.pool.snapshot().guests.slice(0, pick % 4) : [];
    const domain = at(['A', 'A', 'B', 'C'], pick) ?? '';
    const request = { avoid: avoid.map(({ id }) => id), domain, alone: pick % 11 === 0 };
    const session = harness.lease(`s${all.length}`, request);
    if (request.alone) alone.add(session);
    domains.set(session, domain);
    avoided.set(session, new Set(avoid.map(({ id }) => id)));
    all.push(session);
  },
  abort: ({ all }, pick) => {
    at(
      all.filter(({ state }) => state === 'waiting'),
      pick,
    )?.controller.abort(new Error('gone'));
  },
  return: async ({ held }, pick) => {
    const session = at(held, pick);
    if (session === undefined) return;
    returned.add(session);
    await session.return();
    await session.return();
  },
  /** One session returns its lease; a few microtasks later, in the midst of the grant, all that wait leave. */
  returnAndAbort: async ({ held, all }, pick) => {
    const session = at(held, pick);
    if (session === undefined) return;
    const waiting = all.filter(({ state }) => state === 'waiting');
    returned.add(session);
    void session.return();
    for (let ticks = pick % 3; ticks > 0; ticks--) await Promise.resolve();
    const gone = waiting.filter(({ lease }) => lease === undefined);
    for (const other of gone) other.controller.abort(new Error('gone'));
    await settled();
    // A lease that was granted before the abort is its session's to return.
    for (const other of gone) {
      returned.add(other);
      void other.return();
    }
  },
  retire: ({ held }, pick) => {
    at(held, pick)?.retire('conflict');
  },
  bootOk: ({ harness }, pick) => {
    at([...harness.driver.boots.values()], pick)?.succeed();
  },
  bootFails: ({ harness }, pick) => {
    const boot = at([...harness.driver.boots.values()], pick);
    boot?.fail(harness.driver.bootError(boot.id, 'no kernel'));
  },
  die: ({ harness }, pick) => {
    at(
      [...harness.driver.guests.values()].filter(({ gone }) => !gone),
      pick,
    )?.die('power cut');
  },
  sleep: ({ harness, sleepy }, pick) => {
    const guest = at([...harness.driver.guests.values()], pick);
    if (guest === undefined) return;
    sleepy.add(guest.id);
    guest.notices.emit({ kind: 'sleep' });
  },
  wake: ({ harness, sleepy }, pick) => {
    const guest = at([...harness.driver.guests.values()], pick);
    if (guest === undefined) return;
    const answer = at(['exit', 'exit', 'fail', 'hang'] as const, pick) ?? 'exit';
    guest.setClockBehaviour(answer);
    if (answer === 'hang') sleepy.add(guest.id);
    else if (guest.daemon === 'answers') sleepy.delete(guest.id);
    guest.notices.emit({ kind: 'wake' });
  },
  hang: ({ harness, sleepy }, pick) => {
    const guest = at([...harness.driver.guests.values()], pick);
    if (guest === undefined) return;
    sleepy.add(guest.id);
    guest.daemon = pick % 2 === 0 ? 'hangs' : 'fails';
  },
  fillScratch: ({ harness }, pick) => {
    const guest = at([...harness.driver.guests.values()], pick);
    if (guest !== undefined) guest.scratchUsedRatio = 0.9;
  },
  advance: async ({ harness }, pick) => {
    await harness.clock.advance(at([1, 999, 5000, 30_000, 60_000, 200_000], pick) ?? 0);
  },
  drain: (checked, pick) => {
    if (pick % 5 !== 0) return;
    checked.shuttingDown = true;
    void checked.harness.pool.drain().then(() => (checked.drained = true));
  },
};

const actions = fc.array(fc.tuple(fc.constantFrom(...Object.keys(ACTIONS)), fc.nat({ max: 1000 })), {
  maxLength: 60,
  size: 'max',
});

describe('the pool, whatever happens', () => {
  test('keeps its invariants, and is empty after its end', async () => {
    await fc.assert(
      fc.asyncProperty(options, actions, fc.boolean(), async (rules, script, kill) => {
        const checked = new Checked(rules);
        await checked.check();
        for (const [name, pick] of script) {
          await ACTIONS[name]?.(checked, pick);
          await checked.check();
        }
        checked.shuttingDown = true;
        const { pool, driver, clock } = checked.harness;
        void (kill ? pool.kill() : pool.drain()).then(() => (checked.drained = true));
        await checked.check();
        for (const session of checked.held) {
          returned.add(session);
          await session.return();
        }
        await checked.check();
        expect(pool.snapshot()).toMatchObject({ guests: [], waiting: 0, queues: [], leases: 0 });
        expect([driver.alive, checked.drained]).toEqual([0, true]);
        await clock.advance(10_000_000);
        expect([driver.alive, clock.pendingTimers]).toEqual([0, 0]);
      }),
      { numRuns: 250 },
    );
  });
});
