import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';

import { plan } from '../../../src/pool/plan.js';
import type { GuestView, PoolPolicy, Snapshot, Step } from '../../../src/pool/view.js';
import { isAlive } from '../../../src/pool/state.js';
import { apply, guest, situation, snapshot, waiter } from './model.js';

const isUp = ({ state }: GuestView): boolean => state === 'ready' || state === 'leased';
const ofType = <T extends Step['type']>(steps: readonly Step[], type: T) =>
  steps.filter((step): step is Extract<Step, { type: T }> => step.type === type);
const byId = ({ guests }: Snapshot) => new Map(guests.map((view) => [view.id, view]));

/** Plans and applies until there is nothing to do. */
function settle(
  start: Snapshot,
  rules: PoolPolicy,
  now: number,
): { after: Snapshot; wakeAt: number | undefined } {
  let after = start;
  for (let rounds = 0; rounds < 10; rounds++) {
    const { steps, wakeAt } = plan(after, rules, now);
    if (steps.length === 0) return { after, wakeAt };
    after = apply(after, steps, now);
  }
  throw new Error('the plan does not come to rest');
}

describe('plan, in any situation', () => {
  test('keeps to the limits', () => {
    fc.assert(
      fc.property(situation, ({ rules, before, now }) => {
        const { steps } = plan(before, rules, now);
        const alive = before.guests.filter(({ state }) => isAlive(state)).length;
        const boots = ofType(steps, 'boot').length;
        expect(boots).toBeLessThanOrEqual(Math.max(0, rules.maxGuests - alive));
        const forAll = Math.ceil(before.waiters.length / Math.min(rules.jobsPerGuest, rules.maxBuilds));
        expect(boots).toBeLessThanOrEqual(Math.max(forAll, rules.warmGuests));
        if (before.shuttingDown) expect(boots).toBe(0);
        for (const view of apply(before, ofType(steps, 'grant'), now).guests) {
          expect(view.leases).toBeLessThanOrEqual(rules.jobsPerGuest);
          if (view.leases > (byId(before).get(view.id)?.leases ?? 0)) {
            expect(view.builds).toBeLessThanOrEqual(rules.maxBuilds);
          }
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('grants only what may be granted, once to each waiter and in their order', () => {
    fc.assert(
      fc.property(situation, ({ rules, before, now }) => {
        const grants = ofType(plan(before, rules, now).steps, 'grant');
        expect(new Set(grants.map(({ waiter: id }) => id)).size).toBe(grants.length);
        const views = byId(before);
        const order = before.waiters.map(({ id }) => id);
        const taken = new Map<string, number>();
        for (const [index, grant] of grants.entries()) {
          const view = views.get(grant.guest);
          const asker = before.waiters.find(({ id }) => id === grant.waiter);
          expect(view !== undefined && isUp(view) && view.retire === undefined && !view.asleep).toBe(true);
          expect(asker?.avoid.has(grant.guest)).toBe(false);
          // Whoever came before and has got nothing yet cannot use this guest.
          const earlier = before.waiters.slice(0, order.indexOf(grant.waiter));
          const served = new Set(grants.slice(0, index).map(({ waiter: id }) => id));
          expect(earlier.every(({ id, avoid }) => served.has(id) || avoid.has(grant.guest))).toBe(true);
          // Packing: no other guest that the waiter may have, and that is granted to, is fuller.
          const count = (id: string): number => (views.get(id)?.leases ?? 0) + (taken.get(id) ?? 0);
          const fuller = grants
            .map(({ guest: id }) => id)
            .filter((id) => count(id) > count(grant.guest) && asker?.avoid.has(id) === false)
            .filter((id) => count(id) < rules.jobsPerGuest)
            .filter((id) => (views.get(id)?.builds ?? 0) + (taken.get(id) ?? 0) < rules.maxBuilds);
          expect(fuller).toEqual([]);
          taken.set(grant.guest, (taken.get(grant.guest) ?? 0) + 1);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('comes to rest, with nobody waiting who need not wait', () => {
    fc.assert(
      fc.property(situation, ({ rules, before, now }) => {
        const { after, wakeAt } = settle(before, rules, now);
        const up = after.guests.filter((view) => isUp(view));
        const free = up.filter(({ leases }) => leases < rules.jobsPerGuest);
        const awake = free.filter(({ asleep }) => !asleep);
        for (const { avoid } of after.waiters) expect(awake.every(({ id }) => avoid.has(id))).toBe(true);
        const alive = after.guests.filter(({ state }) => isAlive(state));
        expect(alive.length).toBeLessThanOrEqual(rules.maxGuests);
        if (after.shuttingDown) expect(alive.every(({ state }) => state === 'draining')).toBe(true);
        else if (now >= after.bootNotBefore && alive.length < rules.maxGuests) {
          const coming = alive.filter(({ state }) => state === 'booting').length;
          const room = free.reduce((sum, { leases }) => sum + rules.jobsPerGuest - leases, 0);
          expect(coming * rules.jobsPerGuest + room).toBeGreaterThanOrEqual(after.waiters.length);
          expect(coming + up.length).toBeGreaterThanOrEqual(rules.warmGuests);
        }
        if (!after.shuttingDown) {
          // Nobody waits for ever: something is coming, is going, or can be used one day.
          const moving = alive.some(({ state }) => state === 'draining' || state === 'booting');
          for (const { avoid } of after.waiters)
            expect(moving || alive.some(({ id }) => !avoid.has(id))).toBe(true);
        }
        for (const view of after.guests.filter(({ state }) => state === 'draining')) {
          expect(view.stopping).toBe(view.leases === 0);
        }
        if (wakeAt !== undefined) expect(wakeAt).toBeGreaterThan(now);
      }),
      { numRuns: 2000 },
    );
  });

  test('until it asks to be woken there is nothing to do', () => {
    fc.assert(
      fc.property(situation, fc.double({ min: 0, max: 1, noNaN: true }), ({ rules, before, now }, part) => {
        const { after, wakeAt } = settle(before, rules, now);
        const later = now + ((wakeAt ?? now + 1e9) - now) * part;
        if (wakeAt !== undefined && later >= wakeAt) return;
        expect(plan(after, rules, later).steps).toEqual([]);
      }),
      { numRuns: 3000 },
    );
  });

  test('what is due at the time of waking is done then, however the sums are rounded', () => {
    const fine = fc.double({ min: 0, max: 1e7, noNaN: true });
    const rules = {
      maxGuests: 2,
      warmGuests: 0,
      jobsPerGuest: 1,
      maxBuilds: 9,
      maxAgeMs: 1e9,
      idleTimeoutMs: 100,
    };
    fc.assert(
      fc.property(fine, fc.double({ min: 0, max: 1e5, noNaN: true }), (idleSince, idleTimeoutMs) => {
        const policy = { ...rules, idleTimeoutMs };
        const before = snapshot([guest('g1', 'ready', { idleSince })]);
        const { wakeAt, steps } = plan(before, policy, idleSince);
        if (steps.length > 0) return;
        expect(wakeAt).toBeDefined();
        expect(plan(before, policy, wakeAt ?? 0).steps).toHaveLength(2);
      }),
      { numRuns: 5000 },
    );
  });

  test('plans 1,000 waiters and 100 guests in a few milliseconds', () => {
    const rules = {
      maxGuests: 100,
      warmGuests: 0,
      jobsPerGuest: 8,
      maxBuilds: 99,
      maxAgeMs: 1e9,
      idleTimeoutMs: 1e6,
    };
    const ids = Array.from({ length: 100 }, (_, index) => `g${index}`);
    const situations = [
      snapshot(
        ids.map((id) => guest(id, 'ready')),
        Array.from({ length: 1000 }, (_, id) => waiter(id)),
      ),
      snapshot(
        ids.map((id) => guest(id, 'ready')),
        Array.from({ length: 1000 }, (_, id) => waiter(id, ...ids)),
      ),
      snapshot(
        ids.map((id) => guest(id, 'leased', { leases: 8 })),
        Array.from({ length: 1000 }, (_, id) => waiter(id)),
      ),
    ];
    for (const before of situations) {
      const times = Array.from({ length: 15 }, () => {
        const start = performance.now();
        plan(before, rules, 10);
        return performance.now() - start;
      });
      // The median, and ten times what it takes on a slow machine: it is the order of growth that is tested.
      expect(times.sort((a, b) => a - b)[7]).toBeLessThan(50);
    }
  });

  test('plans for thousands of guests', () => {
    const guests = Array.from({ length: 4000 }, (_, index) => guest(`g${index}`, 'ready', { bornAt: index }));
    const rules = {
      ...{ maxGuests: 5000, warmGuests: 10, jobsPerGuest: 4, maxBuilds: 99 },
      ...{ maxAgeMs: 1e9, idleTimeoutMs: 10 },
    };
    const { after } = settle(
      snapshot(
        guests,
        Array.from({ length: 2000 }, (_, id) => waiter(id)),
      ),
      rules,
      100,
    );
    expect(after.waiters).toEqual([]);
    expect(after.guests.filter(({ state }) => state === 'leased')).toHaveLength(500);
    expect(after.guests.filter(({ state }) => state === 'draining')).toHaveLength(3500);
  });
});
