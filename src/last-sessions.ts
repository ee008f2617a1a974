import type { Front } from './front/front.js';
import type { Clock } from './lib/clock.js';
import { whenStalled } from './lib/stall.js';

/** A session without a guest that has said nothing for this long wants none, in milliseconds. */
const QUIET_MS = 4_000;
/** The same for sessions that go on talking. */
const TALK_MS = 60_000;

export interface SessionsLeft {
  readonly front: Pick<Front, 'sessions' | 'events'>;
  /** Sessions that have a guest or wait for one. */
  readonly busy: () => number;
  /** Changes whenever a session makes progress. */
  readonly progress: () => string;
  readonly clock: Pick<Clock, 'after' | 'now'>;
  /** Aborts when all guests are ended: no session gets one any more. */
  readonly over: AbortSignal;
}

/**
 * Settles when no session is left that may ask for a guest. Nix has chosen this builder for each session that is open
 * when the doors close, and takes no other one if the build is then refused.
 */
export async function lastSessions({ front, busy, progress, clock, over }: SessionsLeft): Promise<void> {
  if (front.sessions === 0 || over.aborted) return;
  await new Promise<void>((resolve) => {
    let looks = 0;
    let busyAt = clock.now();
    const done = (): void => {
      stopListening();
      stopWatching();
      over.removeEventListener('abort', done);
      resolve();
    };
    const stopListening = front.events.on(({ type }) => {
      if (type === 'session-closed' && front.sessions === 0) done();
    });
    const quiet = (): string => {
      if (busy() === 0) return clock.now() - busyAt < TALK_MS ? progress() : 'talk';
      busyAt = clock.now();
      return `busy ${++looks}`;
    };
    const stopWatching = whenStalled(clock, quiet, QUIET_MS, done);
    over.addEventListener('abort', done, { once: true });
  });
}
