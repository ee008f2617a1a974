import { DroverError } from '../lib/errors.js';

/*
 *               greeted               leased               relay
 *   greeting ───────────► answering ◄────────► leased ───────────► relaying
 *                                    returned
 *                      (closed, from any of them)
 */

/**
 * State of a session. Answering, it holds no lease, and everything comes from the host's store: a client may stay here
 * for minutes, waiting for its turn to upload. Leased, the guest is asked first and the host's store second. Relaying,
 * it passes bytes both ways until either side ends.
 */
export type SessionState = 'greeting' | 'answering' | 'leased' | 'relaying' | 'closed';

/** `greeted` ends the handshake; `returned` gives a lost or unfit guest's lease back before another one is taken. */
export type SessionEvent = 'greeted' | 'leased' | 'returned' | 'relay' | 'close';

type Moves = Readonly<Partial<Record<SessionEvent, SessionState>>>;

/** Every legal move. */
const MOVES: Readonly<Record<SessionState, Moves>> = Object.freeze({
  greeting: { greeted: 'answering', close: 'closed' },
  answering: { leased: 'leased', close: 'closed' },
  leased: { returned: 'answering', relay: 'relaying', close: 'closed' },
  relaying: { close: 'closed' },
  closed: {},
});

/** @throws DroverError `ILLEGAL_TRANSITION`: a mistake in the front, never a condition of the world */
export function transition(state: SessionState, event: SessionEvent): SessionState {
  const next = MOVES[state][event];
  if (next !== undefined) return next;
  throw new DroverError('ILLEGAL_TRANSITION', `A session that is ${state} cannot take the event ${event}`, {
    context: { state, event },
  });
}
