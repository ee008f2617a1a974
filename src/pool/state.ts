import { DroverError } from '../lib/errors.js';

/*
 *              booted            leased
 *   booting ───────────► ready ◄────────► leased
 *      │                   │   returned     │
 *      │                   └──────┬─────────┘
 *      │                    drain │
 *      │                          ▼  ended
 *      │                       draining ──────► stopped
 *      │ failed (from any)
 *      └──────────────────────────────────────► failed
 */

export type GuestState = 'booting' | 'ready' | 'leased' | 'draining' | 'stopped' | 'failed';

/** An event of a guest. `returned` is the return of its last lease. */
export type GuestEvent = 'booted' | 'leased' | 'returned' | 'drain' | 'ended' | 'failed';

export const GUEST_STATES: readonly GuestState[] = [
  'booting',
  'ready',
  'leased',
  'draining',
  'stopped',
  'failed',
];

/** Every legal move. A guest that drains keeps its leases to their end, and gets no more. */
const MOVES: Readonly<Record<GuestState, Readonly<Partial<Record<GuestEvent, GuestState>>>>> = Object.freeze({
  booting: { booted: 'ready', drain: 'draining', failed: 'failed' },
  ready: { leased: 'leased', drain: 'draining', failed: 'failed' },
  leased: { leased: 'leased', returned: 'ready', drain: 'draining', failed: 'failed' },
  draining: { returned: 'draining', ended: 'stopped', drain: 'draining', failed: 'failed' },
  stopped: {},
  failed: {},
});

/** @throws DroverError `ILLEGAL_TRANSITION`: a mistake in the pool, never a condition of the world */
export function transition(state: GuestState, event: GuestEvent): GuestState {
  const next = MOVES[state][event];
  if (next !== undefined) return next;
  throw new DroverError('ILLEGAL_TRANSITION', `A guest that is ${state} cannot take the event ${event}`, {
    context: { state, event },
  });
}

/** Whether a guest still holds resources of the host. */
export function isAlive(state: GuestState): boolean {
  return state !== 'stopped' && state !== 'failed';
}
