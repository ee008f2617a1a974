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
