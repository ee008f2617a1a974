/** Cancels a timer; harmless when it has fired. */
export type CancelTimer = () => void;

/** Time, injected so that tests need not wait. */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  now(): number;
  /** Wall-clock time in milliseconds since 1970: for people and peers, never for intervals. */
  wallNow(): number;
  /** Calls `action` once, `delayMs` from now. Timers do not keep the process alive. */
  after(delayMs: number, action: () => void): CancelTimer;
}

/** A timer that fires this much too late shows that this process itself was stopped, in milliseconds. */
const PAUSE_MS = 2_000;

/**
 * Like `after`, for a time limit on a peer's answer. If this process is stopped meanwhile, as by the host's
 * sleep, the time limit starts again: the answer may be waiting to be read.
 */
export function afterAwake(clock: Clock, delayMs: number, action: () => void): CancelTimer {
  const dueAt = clock.now() + delayMs;
  let cancel = clock.after(delayMs, () => {
    if (clock.now() - dueAt > PAUSE_MS) cancel = afterAwake(clock, delayMs, action);
    else action();
  });
  return () => {
    cancel();
  };
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wallNow: () => Date.now(),
  after(delayMs, action) {
    const timer = setTimeout(action, Math.max(0, Math.ceil(delayMs)));
    timer.unref();
    return () => {
      clearTimeout(timer);
    };
  },
};
