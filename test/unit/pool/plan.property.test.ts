import { describe, expect, test } from '@jest/globals';

import { isStep } from '../../../src/pool/demand.js';
import { nextStep } from '../../../src/pool/plan.js';
import { isAlive } from '../../../src/pool/state.js';
import type { GuestView, PoolPolicy, Step } from '../../../src/pool/view.js';
import { guest, indexOf, settle, settleWith, situation, snapshot, waiter, type Snapshot } from './model.js';
import { oracleStep } from './oracle.js';
import { planOfToday } from './today.js';
import fc from '../../support/property.js';

const isUp = ({ state }: GuestView): boolean => state === 'ready' || state === 'leased';
const ofType = <T extends Step['type']>(steps: readonly Step[], type: T) =>
  steps.filter((step): step is Extract<Step, { type: T }> => step.type === type);
const byId = ({ guests }: Snapshot) => new Map(guests.map((view) => [view.id, view]));
const canonical = (steps: readonly Step[]): string[] => steps.map((step) => JSON.stringify(step)).sort();

describe('plan, in any situation', () => {
  test('decides as the oracle does', () => {
    fc.assert(
      fc.property(situation, ({ rules, before, now }) => {
        const planned = settle(before, rules, now);
        const expected = settleWith(before, rules, now, (current) => oracleStep(current, rules, now));
        expect(canonical(planned.steps)).toEqual(canonical(expected.steps));
        expect(planned.after).toEqual(expected.after);
        expect(planned.wakeAt).toBe(expected.wakeAt);
      }),
      { numRuns: 3000 },
    );
  });

  test('decides as before there were domains where there is only one', () => {
    fc.assert(
      fc.property(situation, ({ rules, before, now }) => {
        // Then, a guest that had just used up its builds still counted as warm.
        const policy = { ...rules, isolation: 'shared' as const, maxBuilds: 1000 };
        const start = {
          ...before,
          turns: before.turns.slice(0, 1),
          retryBootAt: 0,
          bootNotBefore: 0,
          guests: before.guests.map((view) => ({ ...view, ...NEVER_UNREADY, drainingSince: now })),
          waiters: before.waiters.map((view) => ({ ...view, domain: before.turns[0] ?? '', alone: false })),
        };
        const planned = settle(start, policy, now);
        const expected = planOfToday(start, policy, now);
        expect(canonical(planned.steps)).toEqual(canonical(expected.steps));
        expect(planned.after.waiters).toEqual(expected.after.waiters);
      }),
      { numRuns: 3000 },
    );
  });

  test('keeps to the limits', () => {
    fc.assert(
      fc.property(situation, ({ rules, before, now }) => {
        const { steps, after } = settle(before, rules, now);
        const alive = before.guests.filter(({ state }) => isAlive(state)).length;
        const boots = ofType(steps, 'boot').length;
        expect(boots).toBeLessThanOrEqual(Math.max(0, rules.maxGuests - alive));
        if (before.shuttingDown) expect(boots).toBe(0);
        const slots = rules.isolation === 'build' ? 1 : rules.jobsPerGuest;
        const builds = rules.isolation === 'build' ? 1 : rules.maxBuilds;
        for (const view of after.guests) {
          const was = byId(before).get(view.id)?.leases ?? 0;
          if (view.leases <= was) continue;
          expect(view.leases).toBeLessThanOrEqual(slots);
          expect(view.builds).toBeLessThanOrEqual(builds);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('grants only slots that may be granted, to guests of the domain or of none', () => {
    fc.assert(
      fc.property(situation, ({ rules, before, now }) => {
        const grants = ofType(settle(before, rules, now).steps, 'grant');
        expect(new Set(grants.map(({ waiter: id }) => id)).size).toBe(grants.length);
        const domains = new Map(before.guests.map(({ id, domain }) => [id, domain]));
        for (const grant of grants) {
          const view = byId(before).get(grant.guest);
          const asker = before.waiters.find(({ id }) => id === grant.waiter);
          if (view === undefined || asker === undefined) throw new Error('no such guest or waiter');
          expect(isUp(view) && view.retire === undefined && !view.asleep && !view.probing).toBe(true);
          expect(asker.avoid.has(grant.guest)).toBe(false);
          if (asker.alone) expect(view.builds).toBe(0);
          if (rules.isolation !== 'shared') {
            const owner = domains.get(grant.guest);
            expect(owner === undefined || owner === asker.domain).toBe(true);
            domains.set(grant.guest, asker.domain);
          }
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('leaves no waiter without a slot, a guest on its way, or a guest to wait for', () => {
    fc.assert(
      fc.property(situation, ({ rules, before, now }) => {
        const { after, wakeAt } = settle(before, rules, now);
        const alive = after.guests.filter(({ state }) => isAlive(state));
        expect(alive.length).toBeLessThanOrEqual(rules.maxGuests);
        if (after.shuttingDown) expect(alive.every(({ state }) => state === 'draining')).toBe(true);
        const moving = alive.some(({ state }) => state === 'draining' || state === 'booting');
        const held = now < Math.max(after.retryBootAt, after.bootNotBefore);
        for (const { domain, avoid } of after.shuttingDown || held ? [] : after.waiters) {
          const own = alive.some(
            (view) => !avoid.has(view.id) && (rules.isolation === 'shared' || view.domain === domain),
          );
          expect(own || moving || wakeAt !== undefined).toBe(true);
        }
        for (const view of after.guests.filter(({ state }) => state === 'draining'))
          expect(view.stopping).toBe(view.leases === 0);
        if (wakeAt !== undefined) expect(wakeAt).toBeGreaterThan(now);
      }),
      { numRuns: 1000 },
    );
  });

  test('has nothing to do until the time at which it asks to be woken', () => {
    fc.assert(
      fc.property(situation, fc.double({ min: 0, max: 1, noNaN: true }), ({ rules, before, now }, part) => {
        const { after, wakeAt } = settle(before, rules, now);
        const later = now + ((wakeAt ?? now + 1e9) - now) * part;
        if (wakeAt !== undefined && later >= wakeAt) return;
        // A guest that falls silent meanwhile is asked only when a waiter needs it.
        const awake = { ...after, guests: after.guests.map((view) => ({ ...view, seenAt: Infinity })) };
        const step = nextStep(indexOf(awake, rules), awake, later);
        expect(isStep(step) && step.type !== 'grant').toBe(false);
      }),
      { numRuns: 2000 },
    );
  });

  test('does at the time of waking what is due then, however the sums are rounded', () => {
    const fine = fc.double({ min: 0, max: 1e7, noNaN: true });
    fc.assert(
      fc.property(fine, fc.double({ min: 0, max: 1e5, noNaN: true }), (idleSince, idleTimeoutMs) => {
        const policy = { ...SMALL, idleTimeoutMs };
        const before = snapshot([guest('g1', 'ready', { idleSince })]);
        const { wakeAt, steps } = settle(before, policy, idleSince);
        if (steps.length > 0) return;
        expect(wakeAt).toBeDefined();
        expect(settle(before, policy, wakeAt ?? 0).steps).toHaveLength(2);
      }),
      { numRuns: 3000 },
    );
  });

  test('plans for thousands of guests', () => {
    const guests = Array.from({ length: 4000 }, (_, index) => guest(`g${index}`, 'ready', { bornAt: index }));
    const rules: PoolPolicy = { ...SMALL, maxGuests: 5000, warmGuests: 10, jobsPerGuest: 4 };
    const waiters = Array.from({ length: 2000 }, (_, id) => waiter(id));
    const start = snapshot(guests, waiters);
    const index = indexOf(start, rules);
    const views = new Map(guests.map((view) => [view.id, view]));
    const counts = { grant: 0, drain: 0, destroy: 0, probe: 0, boot: 0, release: 0 };
    for (;;) {
      const step = nextStep(index, start, 200);
      if (!isStep(step)) break;
      counts[step.type] += 1;
      if (step.type === 'boot' || step.type === 'probe') throw new Error(`unexpected ${step.type}`);
      const view = views.get(step.guest);
      if (view === undefined) throw new Error(`There is no guest ${step.guest}`);
      const { leases, builds } = view;
      const facts: Partial<GuestView> =
        step.type === 'grant'
          ? { state: 'leased', leases: leases + 1, builds: builds + 1, domain: 'uid:0' }
          : step.type === 'drain'
            ? { state: 'draining', retire: step.reason }
            : { stopping: true };
      views.set(view.id, { ...view, ...facts });
      index.putGuest({ ...view, ...facts });
      if (step.type === 'grant') index.removeWaiter(step.waiter);
    }
    expect(counts).toEqual({ grant: 2000, drain: 3500, destroy: 3500, probe: 0, boot: 0, release: 0 });
  });
});

const NEVER_UNREADY: Partial<GuestView> = { asleep: false, probing: false, seenAt: Infinity };
const SMALL: PoolPolicy = {
  maxGuests: 2,
  warmGuests: 0,
  jobsPerGuest: 1,
  isolation: 'client',
  idleTimeoutMs: 100,
  maxBuilds: 9,
  maxAgeMs: 1e9,
};
