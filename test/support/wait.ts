import type { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_INTERVAL_MS = 20;

/**
 * Time limit for events that should be immediate, in milliseconds: generous, since builds compete for two
 * cores, and a machine may be ten times slower than another.
 */
export const DEADLINE_MS = 120_000;

/**
 * For conditions without an event to wait for: polls until the answer is neither undefined nor false, and
 * returns it.
 * @param what for the error message, as the end of "gave up waiting for …"
 */
export async function waitUntil<T>(
  what: string,
  probe: () => T | Promise<T>,
  deadlineMs = DEADLINE_MS,
): Promise<Exclude<T, undefined | false>> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined && answer !== false) return answer as Exclude<T, undefined | false>;
    if (performance.now() > deadline) throw new Error(`gave up waiting for ${what}`);
    await delay(POLL_INTERVAL_MS);
  }
}

/** `promise`, unless it takes longer than it may. */
export async function within<T>(what: string, promise: Promise<T>, deadlineMs = DEADLINE_MS): Promise<T> {
  const timer = new AbortController();
  try {
    return await Promise.race([
      promise,
      delay(deadlineMs, undefined, { signal: timer.signal }).then(() => {
        throw new Error(`gave up waiting for ${what}`);
      }),
    ]);
  } finally {
    timer.abort();
  }
}

/** Settles with the end of a connection, also if that is a failure. */
export function closeOf(connection: EventEmitter): Promise<void> {
  return new Promise((resolve) => connection.once('close', resolve));
}
