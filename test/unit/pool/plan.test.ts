import { describe, expect, test } from '@jest/globals';

import type { GuestView, PoolPolicy, Step } from '../../../src/pool/view.js';
import { guest, settle, snapshot, waiter, type Snapshot } from './model.js';

const POLICY: PoolPolicy = {
  maxGuests: 3,
  warmGuests: 0,
  jobsPerGuest: 2,
  isolation: 'client',
  idleTimeoutMs: 100,
  maxBuilds: 10,
  maxAgeMs: 1000,
};
const ready = (id: string, facts: Partial<GuestView> = {}): GuestView => guest(id, 'ready', facts);
const leased = (id: string, leases: number, facts: Partial<GuestView> = {}): GuestView =>
  guest(id, 'leased', { leases, ...facts });

function text(step: Step): string {
  switch (step.type) {
    case 'boot':
      return 'boot';
    case 'grant':
      return `grant ${step.guest} to ${step.waiter}`;
    case 'release':
      return `release ${step.guest}`;
    case 'probe':
      return `probe ${step.guest}`;
    case 'drain':
      return `drain ${step.guest}: ${step.reason}`;
    case 'destroy':
      return `destroy ${step.guest}`;
  }
}

interface Row {
  readonly what: string;
  readonly given: Snapshot;
  readonly policy?: Partial<PoolPolicy>;
  readonly now?: number;
  readonly steps: readonly string[];
  readonly wakeAt?: number;
}

const ROWS: readonly Row[] = [
  { what: 'nothing to do', given: snapshot([]), steps: [] },
  { what: 'a guest for a waiter', given: snapshot([], [waiter(1)]), steps: ['boot'] },
  {
    what: 'as many guests as the waiters fill',
    given: snapshot([], [waiter(1), waiter(2), waiter(3)]),
    steps: ['boot', 'boot'],
  },
  {
    what: 'no boot that another boot makes needless',
    given: snapshot([guest('g1', 'booting')], [waiter(1), waiter(2)]),
    steps: [],
  },
  {
    what: 'a waiter more than the booting guest has room for',
    given: snapshot([guest('g1', 'booting')], [waiter(1), waiter(2), waiter(3)]),
    steps: ['boot'],
  },
  {
    what: 'no more than maxGuests',
    given: snapshot(
      [leased('g1', 2), guest('g2', 'draining', { leases: 1 })],
      [1, 2, 3, 4, 5].map((id) => waiter(id)),
    ),
    steps: ['boot'],
    wakeAt: 1000,
  },
  {
    what: 'guests that fit fewer builds than they have slots',
    given: snapshot([], [waiter(1), waiter(2)]),
    policy: { maxBuilds: 1 },
    steps: ['boot', 'boot'],
  },
  {
    what: 'the fullest guest first',
    given: snapshot([ready('g1'), leased('g2', 1)], [waiter(1), waiter(2)]),
    steps: ['grant g2 to 1', 'grant g1 to 2'],
    wakeAt: 1000,
  },
  {
    what: 'the oldest of equals',
    given: snapshot([ready('g1', { bornAt: 5 }), ready('g2', { bornAt: 4 })], [waiter(1)]),
    steps: ['grant g2 to 1'],
    wakeAt: 100,
  },
  {
    what: 'a guest that the waiter does not avoid',
    given: snapshot([leased('g1', 1), ready('g2')], [waiter(1, 'g1'), waiter(2)]),
    steps: ['grant g1 to 2', 'grant g2 to 1'],
    wakeAt: 1000,
  },
  {
    what: 'nothing to guests that boot, drain or must be retired',
    given: snapshot(
      [
        guest('g1', 'booting'),
        guest('g2', 'draining', { leases: 1 }),
        leased('g3', 1, { retire: 'conflict' }),
      ],
      [waiter(1)],
    ),
    steps: ['drain g3: conflict'],
  },
  {
    what: 'idle guests go',
    given: snapshot([ready('g1', { idleSince: 10 }), ready('g2', { idleSince: 11 })]),
    now: 110,
    steps: ['drain g1: idle', 'destroy g1'],
    wakeAt: 111,
  },
  {
    what: 'warm guests stay, the oldest first',
    given: snapshot([ready('g2', { bornAt: 2 }), ready('g1', { bornAt: 1 })]),
    policy: { warmGuests: 1 },
    now: 500,
    steps: ['drain g2: idle', 'destroy g2'],
    wakeAt: 1000,
  },
  {
    what: 'a guest in use is warm too',
    given: snapshot([leased('g1', 1), ready('g2')]),
    policy: { warmGuests: 1 },
    now: 500,
    steps: ['drain g2: idle', 'destroy g2'],
    wakeAt: 1000,
  },
  {
    what: 'guests to be warm',
    given: snapshot([guest('g1', 'booting')]),
    policy: { warmGuests: 3 },
    steps: ['boot', 'boot'],
  },
  {
    what: 'too old, from when it was ready',
    given: snapshot([leased('g1', 1, { readyAt: 0 }), leased('g2', 1, { readyAt: 1 })]),
    now: 1000,
    steps: ['drain g1: age'],
    wakeAt: 1001,
  },
  {
    what: 'too many builds',
    given: snapshot([leased('g1', 1, { builds: 10 }), ready('g2', { builds: 10 })]),
    steps: ['drain g1: builds', 'drain g2: builds', 'destroy g2'],
  },
  {
    what: 'a guest that is being stopped is not stopped again',
    given: snapshot([guest('g1', 'draining', { stopping: true }), guest('g2', 'draining')]),
    steps: ['destroy g2'],
  },
  {
    what: 'shutting down',
    given: snapshot([guest('g1', 'booting'), ready('g2'), leased('g3', 2)], [], { shuttingDown: true }),
    policy: { warmGuests: 2 },
    steps: ['drain g1: shutdown', 'drain g2: shutdown', 'drain g3: shutdown', 'destroy g1', 'destroy g2'],
  },
  {
    what: 'no warm guest while boots fail',
    given: snapshot([], [], { bootNotBefore: 50 }),
    policy: { warmGuests: 1 },
    steps: [],
    wakeAt: 50,
  },
  {
    what: 'while boots fail, a waiter without any other guest is worth a try',
    given: snapshot([leased('g1', 2)], [waiter(1), waiter(2, 'g1')], { bootNotBefore: 50 }),
    steps: ['boot'],
    wakeAt: 50,
  },
  {
    what: 'while boots fail, others wait for the guest that runs',
    given: snapshot([leased('g1', 2)], [waiter(1)], { bootNotBefore: 50 }),
    steps: [],
    wakeAt: 50,
  },
  {
    what: 'an idle guest that is avoided makes room',
    given: snapshot([ready('g1')], [waiter(1, 'g1')]),
    policy: { maxGuests: 1, warmGuests: 1 },
    steps: ['drain g1: conflict', 'destroy g1'],
    wakeAt: 60_000,
  },
  {
    what: 'one guest on its way out is room enough',
    given: snapshot([ready('g1'), guest('g2', 'draining', { stopping: true })], [waiter(1, 'g1')]),
    policy: { maxGuests: 2 },
    steps: [],
    wakeAt: 100,
  },
  {
    what: 'of the guests in use the least used one makes room, and not in the plan that just leased it',
    given: snapshot([leased('g1', 2), ready('g2')], [waiter(1), waiter(2, 'g1', 'g2')]),
    policy: { maxGuests: 2 },
    steps: ['grant g2 to 1', 'drain g2: conflict'],
    wakeAt: 1000,
  },
];

describe('plan', () => {
  test.each(ROWS)('$what', ({ given, policy, now, steps, wakeAt }) => {
    const made = settle(given, { ...POLICY, ...policy }, now ?? 0);
    expect(made.steps.map(text)).toEqual(steps);
    expect(made.wakeAt).toBe(wakeAt);
  });
});
