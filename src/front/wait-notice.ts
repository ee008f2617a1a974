import type { CancelTimer, Clock } from '../lib/clock.js';
import type { WaitPlace } from '../pool/lease.js';

/** A client that waits is told so after this time, in milliseconds: a namespace guest boots sooner. */
const FIRST_MS = 2_000;
/** From then on, it is told of changes at most this often, in milliseconds. */
const INTERVAL_MS = 10_000;

/** Tells a client its place in the queue. @returns a function that stops it */
export function tellPlace(
  place: () => WaitPlace,
  say: (notice: string) => Promise<void>,
  clock: Clock,
): CancelTimer {
  let last = '';
  let cancel = clock.after(FIRST_MS, tell);
  function tell(): void {
    const { before, reason } = place();
    const notice = `drover: waiting for room: ${before} before it (${reason})`;
    // A client that has gone gives up its place itself.
    if (notice !== last) say(notice).catch(() => undefined);
    last = notice;
    cancel = clock.after(INTERVAL_MS, tell);
  }
  return () => {
    cancel();
  };
}
