import fc from 'fast-check';

import type {
  GuestView,
  PoolPolicy,
  RetireReason,
  Snapshot,
  Step,
  WaiterView,
} from '../../../src/pool/view.js';
import type { GuestState } from '../../../src/pool/state.js';

/** A guest as tests write it down: what they do not say is that of a fresh one. */
export function guest(id: string, state: GuestState, facts: Partial<GuestView> = {}): GuestView {
  return {
    id,
    state,
    leases: state === 'leased' ? 1 : 0,
    builds: facts.leases ?? (state === 'leased' ? 1 : 0),
    bornAt: 0,
    readyAt: 0,
    idleSince: 0,
    retire: undefined,
    stopping: false,
    asleep: false,
    ...facts,
  };
}

export function waiter(id: number, ...avoid: string[]): WaiterView {
  return { id, avoid: new Set(avoid) };
}

export function snapshot(
  guests: readonly GuestView[],
  waiters: readonly WaiterView[] = [],
  facts: Partial<Snapshot> = {},
): Snapshot {
  return { guests, waiters, bootNotBefore: 0, shuttingDown: false, ...facts };
}

/** Carries steps out as the pool does, with a driver that boots and stops when told to: `booted`, `ended`. */
export function apply(before: Snapshot, steps: readonly Step[], now: number): Snapshot {
  const guests = new Map(before.guests.map((view) => [view.id, view]));
  let { waiters } = before;
  const change = (id: string, facts: Partial<GuestView>): void => {
    const view = guests.get(id);
    if (view === undefined) throw new Error(`There is no guest ${id}`);
    guests.set(id, { ...view, ...facts });
  };
  for (const step of steps) {
    switch (step.type) {
      case 'boot': {
        const id = `n${guests.size}-${now}`;
        guests.set(id, guest(id, 'booting', { bornAt: now, idleSince: now, readyAt: now }));
        break;
      }
      case 'grant': {
        const view = guests.get(step.guest);
        change(step.guest, {
          state: 'leased',
          leases: (view?.leases ?? 0) + 1,
          builds: (view?.builds ?? 0) + 1,
        });
        waiters = waiters.filter(({ id }) => id !== step.waiter);
        break;
      }
      case 'drain':
        change(step.guest, { state: 'draining', retire: step.reason });
        break;
      case 'destroy':
        change(step.guest, { stopping: true });
        break;
    }
  }
  return { ...before, guests: [...guests.values()], waiters };
}

export const policy: fc.Arbitrary<PoolPolicy> = fc
  .record({
    maxGuests: fc.integer({ min: 1, max: 12 }),
    warmGuests: fc.integer({ min: 0, max: 12 }),
    jobsPerGuest: fc.integer({ min: 1, max: 5 }),
    idleTimeoutMs: fc.integer({ min: 0, max: 500 }),
    maxBuilds: fc.integer({ min: 1, max: 8 }),
    maxAgeMs: fc.integer({ min: 1, max: 2000 }),
  })
  .map((drawn) => ({ ...drawn, warmGuests: Math.min(drawn.warmGuests, drawn.maxGuests) }));

const reason = fc.constantFrom<(RetireReason | undefined)[]>(
  undefined,
  undefined,
  undefined,
  'conflict',
  'scratch',
  'unfit',
);
const time = fc.double({ min: 0, max: 1000, noNaN: true });

/** A guest in any state that the pool can be in, whatever policy it has grown up under. */
function guestViews(rules: PoolPolicy, count: number): fc.Arbitrary<GuestView[]> {
  const one = fc.record({
    state: fc.constantFrom<GuestState[]>('booting', 'ready', 'leased', 'draining'),
    leases: fc.integer({ min: 0, max: rules.jobsPerGuest }),
    builds: fc.integer({ min: 0, max: rules.maxBuilds }),
    bornAt: time,
    idleSince: time,
    readyAt: time,
    retire: reason,
    stopping: fc.boolean(),
    asleep: fc.boolean(),
  });
  return fc.array(one, { maxLength: count }).map((drawn) =>
    drawn.map((facts, index) => {
      const leases =
        facts.state === 'leased' ? Math.max(1, facts.leases) : facts.state === 'draining' ? facts.leases : 0;
      return {
        ...facts,
        id: `g${index}`,
        leases,
        builds: facts.state === 'booting' ? 0 : Math.max(leases, facts.builds),
        retire: facts.state === 'booting' ? undefined : facts.retire,
        stopping: facts.state === 'draining' && leases === 0 && facts.stopping,
        asleep: facts.state !== 'booting' && facts.asleep,
      };
    }),
  );
}

export interface Situation {
  readonly rules: PoolPolicy;
  readonly before: Snapshot;
  readonly now: number;
}

export const situation: fc.Arbitrary<Situation> = policy.chain((rules) =>
  fc.record({
    rules: fc.constant(rules),
    now: fc.double({ min: 1000, max: 3000, noNaN: true }),
    before: fc.record({
      guests: guestViews(rules, rules.maxGuests),
      waiters: fc
        .array(fc.array(fc.integer({ min: 0, max: rules.maxGuests }), { maxLength: 3 }), { maxLength: 30 })
        .map((all) => all.map((avoid, id) => waiter(id, ...avoid.map((index) => `g${index}`)))),
      bootNotBefore: fc.constantFrom(0, 0, 0, 4000),
      shuttingDown: fc.constantFrom(false, false, false, true),
    }),
  }),
);
