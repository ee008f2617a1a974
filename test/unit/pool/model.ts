import type { GuestState } from '../../../src/pool/state.js';
import { isStep, type StepOrTime } from '../../../src/pool/demand.js';
import { nextStep } from '../../../src/pool/plan.js';
import { PoolIndex } from '../../../src/pool/pool-index.js';
import type {
  Conditions,
  GuestView,
  Isolation,
  PoolPolicy,
  RetireReason,
  Step,
  WaiterView,
} from '../../../src/pool/view.js';
import fc from '../../support/property.js';

/** Everything that decides what a pool does next, as plain data. */
export interface Snapshot extends Conditions {
  readonly guests: readonly GuestView[];
  /** In the order of arrival. */
  readonly waiters: readonly WaiterView[];
  /** Domains that wait, the one whose turn it is first. */
  readonly turns: readonly string[];
}

/** A guest as tests describe it; what they leave out is that of a fresh one. */
export function guest(id: string, state: GuestState, facts: Partial<GuestView> = {}): GuestView {
  const leases = facts.leases ?? (state === 'leased' ? 1 : 0);
  return {
    id,
    state,
    leases,
    shells: 0,
    kept: 0,
    builds: leases,
    domain: leases > 0 ? 'uid:0' : undefined,
    bornAt: 0,
    readyAt: 0,
    claimedAt: 0,
    idleSince: 0,
    seenAt: Infinity,
    drainingSince: 0,
    retire: undefined,
    stopping: false,
    asleep: false,
    probing: false,
    late: false,
    ...facts,
  };
}

export function waiter(id: number, ...avoid: string[]): WaiterView {
  return { id, domain: 'uid:0', avoid: new Set(avoid), alone: false };
}

export function snapshot(
  guests: readonly GuestView[],
  waiters: readonly WaiterView[] = [],
  facts: Partial<Snapshot> = {},
): Snapshot {
  const turns = [...new Set(waiters.map(({ domain }) => domain))];
  return { guests, waiters, turns, bootNotBefore: 0, retryBootAt: 0, shuttingDown: false, ...facts };
}

/** The index of a snapshot, as the pool would have built it up. */
export function indexOf({ guests, waiters, turns }: Snapshot, policy: PoolPolicy): PoolIndex {
  const index = new PoolIndex(policy);
  for (const view of guests) index.putGuest(view);
  for (const domain of turns) for (const view of waiters) if (view.domain === domain) index.addWaiter(view);
  return index;
}

/** Carries a step out as the pool does, with a driver whose boots and stops do not end yet. */
export function apply(before: Snapshot, step: Step, policy: PoolPolicy, now: number): Snapshot {
  const change = (id: string, facts: (view: GuestView) => Partial<GuestView>): GuestView[] =>
    before.guests.map((view) => (view.id === id ? { ...view, ...facts(view) } : view));
  switch (step.type) {
    case 'boot': {
      const id = `n${before.guests.length}-${now}`;
      const fresh = guest(id, 'booting', { bornAt: now, idleSince: now, readyAt: now, seenAt: now });
      return { ...before, guests: [...before.guests, fresh] };
    }
    case 'grant': {
      const asker = before.waiters.find(({ id }) => id === step.waiter);
      if (asker === undefined) throw new Error(`There is no waiter ${step.waiter}`);
      const shared = policy.isolation === 'shared';
      const claimed = before.guests.find(({ id }) => id === step.guest)?.domain === undefined;
      const waiters = before.waiters.filter(({ id }) => id !== step.waiter);
      const turns = shared || claimed ? last(before.turns, asker.domain) : before.turns;
      const waits = waiters.some(({ domain }) => domain === asker.domain);
      return {
        ...before,
        waiters,
        turns: waits ? turns : turns.filter((domain) => domain !== asker.domain),
        guests: change(step.guest, (view) => ({
          state: 'leased',
          leases: view.leases + 1,
          builds: view.builds + 1,
          claimedAt: view.builds === 0 ? now : view.claimedAt,
          domain: shared ? view.domain : asker.domain,
          retire: asker.alone ? 'builds' : view.retire,
        })),
      };
    }
    case 'probe':
      return { ...before, guests: change(step.guest, () => ({ probing: true })) };
    case 'drain': {
      const owner = before.guests.find(({ id }) => id === step.guest)?.domain;
      const yields = step.reason === 'turn' && owner !== undefined;
      return {
        ...before,
        turns: yields ? last(before.turns, owner) : before.turns,
        guests: change(step.guest, () => ({ state: 'draining', retire: step.reason, drainingSince: now })),
      };
    }
    case 'release':
      return { ...before, guests: change(step.guest, () => ({ kept: 0 })) };
    case 'destroy':
      return { ...before, guests: change(step.guest, () => ({ stopping: true })) };
  }
}

function last(turns: readonly string[], domain: string): readonly string[] {
  return turns.includes(domain) ? [...turns.filter((other) => other !== domain), domain] : turns;
}

export interface Settled {
  readonly after: Snapshot;
  readonly steps: readonly Step[];
  readonly wakeAt: number | undefined;
}

/** Plans and applies until there is nothing to do. The index is kept up to date, as the pool does. */
export function settle(start: Snapshot, policy: PoolPolicy, now: number): Settled {
  const index = indexOf(start, policy);
  return settleWith(
    start,
    policy,
    now,
    (current) => nextStep(index, current, now),
    (before, after, step) => {
      update(index, before, after, step);
    },
  );
}

/** The same with another planner. */
export function settleWith(
  start: Snapshot,
  policy: PoolPolicy,
  now: number,
  next: (snapshot: Snapshot) => StepOrTime,
  onApplied: (before: Snapshot, after: Snapshot, step: Step) => void = () => undefined,
): Settled {
  let after = start;
  const steps: Step[] = [];
  for (let count = 0; count < 20_000; count++) {
    const step = next(after);
    if (!isStep(step)) return { after, steps, wakeAt: step };
    steps.push(step);
    const before = after;
    after = apply(before, step, policy, now);
    onApplied(before, after, step);
  }
  throw new Error('the plan does not come to rest');
}

function update(index: PoolIndex, before: Snapshot, after: Snapshot, step: Step): void {
  if (step.type === 'grant') index.removeWaiter(step.waiter);
  const known = new Set(before.guests);
  for (const view of after.guests) if (!known.has(view)) index.putGuest(view);
  const ended = after.turns.at(-1);
  if (after.turns !== before.turns && ended !== undefined) index.endTurn(ended);
}

export const policy: fc.Arbitrary<PoolPolicy> = fc
  .record({
    maxGuests: fc.integer({ min: 1, max: 12 }),
    warmGuests: fc.integer({ min: 0, max: 12 }),
    jobsPerGuest: fc.integer({ min: 1, max: 5 }),
    isolation: fc.constantFrom<Isolation[]>('client', 'client', 'build', 'shared'),
    idleTimeoutMs: fc.integer({ min: 0, max: 500 }),
    maxBuilds: fc.integer({ min: 1, max: 8 }),
    maxAgeMs: fc.integer({ min: 1, max: 2000 }),
  })
  .map((drawn) => ({ ...drawn, warmGuests: Math.min(drawn.warmGuests, drawn.maxGuests) }));

const reason = fc.constantFrom<(RetireReason | undefined)[]>(
  ...Array<undefined>(6).fill(undefined),
  'conflict',
  'scratch',
  'unfit',
);
const time = fc.double({ min: 0, max: 1000, noNaN: true });
const domain = fc.constantFrom('A', 'A', 'B', 'C', 'D');
const rarely = fc.constantFrom(false, false, false, true);

/** Guests in any state that the pool can be in, whatever the policy was when they came into it. */
function guestViews(rules: PoolPolicy): fc.Arbitrary<GuestView[]> {
  const one = fc.record({
    state: fc.constantFrom<GuestState[]>('booting', 'ready', 'leased', 'leased', 'draining'),
    domain,
    leases: fc.integer({ min: 0, max: rules.jobsPerGuest }),
    builds: fc.integer({ min: 0, max: rules.maxBuilds }),
    bornAt: time,
    bootMs: fc.constantFrom(0, 0, 10, 300),
    claimedAt: time,
    idleSince: time,
    silent: rarely,
    drainingSince: fc.constantFrom(0, -60_000),
    retire: reason,
    stopping: fc.boolean(),
    asleep: rarely,
    probing: rarely,
    late: fc.boolean(),
  });
  return fc.array(one, { maxLength: rules.maxGuests }).map((drawn) =>
    drawn.map(({ bootMs, silent, ...facts }, index) => {
      const { state } = facts;
      const booting = state === 'booting';
      const leases = state === 'leased' ? Math.max(1, facts.leases) : state === 'draining' ? facts.leases : 0;
      const builds = booting ? 0 : Math.max(leases, facts.builds);
      return {
        ...facts,
        id: `g${index}`,
        shells: 0,
        kept: 0,
        leases,
        builds,
        domain: builds > 0 ? facts.domain : undefined,
        readyAt: facts.bornAt + bootMs,
        seenAt: silent ? -60_000 : 3000,
        retire: booting ? undefined : facts.retire,
        stopping: state === 'draining' && leases === 0 && facts.stopping,
        asleep: !booting && facts.asleep,
        probing: !booting && facts.probing,
        late: !booting && facts.probing && facts.late,
      };
    }),
  );
}

function waiterViews(rules: PoolPolicy): fc.Arbitrary<WaiterView[]> {
  const one = fc.record({
    domain,
    avoid: fc.oneof(
      { weight: 3, arbitrary: fc.constant<number[]>([]) },
      { weight: 1, arbitrary: fc.array(fc.integer({ min: 0, max: rules.maxGuests }), { maxLength: 3 }) },
    ),
    alone: fc.constantFrom(...Array<false>(7).fill(false), true),
  });
  return fc.array(one, { maxLength: 30 }).map((drawn) =>
    drawn.map(({ avoid, ...facts }, id) => ({
      ...facts,
      id,
      avoid: new Set(avoid.map((index) => `g${index}`)),
    })),
  );
}

export interface Situation {
  readonly rules: PoolPolicy;
  readonly before: Snapshot;
  readonly now: number;
}

export const situation: fc.Arbitrary<Situation> = policy.chain((rules) =>
  fc
    .record({
      now: fc.double({ min: 1000, max: 3000, noNaN: true }),
      guests: guestViews(rules),
      waiters: waiterViews(rules),
      turns: fc.shuffledSubarray(['A', 'B', 'C', 'D'], { minLength: 4 }),
      bootNotBefore: fc.constantFrom(0, 0, 0, 4000),
      retryBootAt: fc.constantFrom(0, 0, 0, 4000),
      shuttingDown: rarely,
    })
    .map(({ now, turns, ...drawn }) => ({
      rules,
      now,
      before: {
        ...drawn,
        turns: turns.filter((name) => drawn.waiters.some(({ domain: waiting }) => waiting === name)),
      },
    })),
);
