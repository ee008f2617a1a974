import type { Front } from './front/front.js';
import type { Clock } from './lib/clock.js';
import { whenStalled } from './lib/stall.js';

/** A session without a guest that has said nothing for this long wants none, in milliseconds. */
const QUIET_MS = 4_000;

export interface SessionsLeft {
  readonly front: Pick<Front, 'sessions' | 'events'>;
  /** Sessions that have a guest or wait for one. */
  readonly busy: () => number;
  /** Changes whenever a session makes progress. */
  readonly progress: () => string;
  readonly clock: Pick<Clock, 'after' | 'now'>;
}

/**
 * Settles when no session is left that may ask for a guest. Nix has chosen this builder for each session that is open
 * when the doors close, and takes no other one if the build is then refused.
 */
export async function lastSessions({ front, busy, progress, clock }: SessionsLeft): Promise<void> {
  if (front.sessions === 0) return;
  await new Promise<void>((resolve) => {
    let looks = 0;
    const done = (): void => {
      stopListening();
      stopWatching();
      resolve();
    };
    const stopListening = front.events.on(({ type }) => {
      if (type === 'session-closed' && front.sessions === 0) done();
    });
    const quiet = (): string => (busy() > 0 ? `busy ${++looks}` : progress());
    const stopWatching = whenStalled(clock, quiet, QUIET_MS, done);
  });
}
