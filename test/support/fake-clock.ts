import type { CancelTimer, Clock } from '../../src/lib/clock.js';

interface Timer {
  readonly at: number;
  readonly action: () => void;
}

/** Lets everything that has been promised happen: no time passes for it, on no clock. */
export async function settled(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}

/** A clock that stands still until it is told to go on. */
export class FakeClock implements Clock {
  readonly #timers = new Set<Timer>();
  #wallOffset: number;
  #now: number;

  constructor(now = 0, wallNow = Date.UTC(2025, 0, 1)) {
    this.#now = now;
    this.#wallOffset = wallNow - now;
  }

  now(): number {
    return this.#now;
  }

  wallNow(): number {
    return this.#now + this.#wallOffset;
  }

  after(delayMs: number, action: () => void): CancelTimer {
    const timer = { at: this.#now + Math.max(0, delayMs), action };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Timers that have been set and not fired: for the search of leaks. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /** The wall clock is set: forward, or back. */
  setWall(byMs: number): void {
    this.#wallOffset += byMs;
  }

  /** Fires the timers that become due, in order, each at its own time, and lets what follows from it happen. */
  async advance(byMs: number): Promise<void> {
    const until = this.#now + byMs;
    for (let timer = this.#next(until); timer !== undefined; timer = this.#next(until)) {
      this.#timers.delete(timer);
      this.#now = Math.max(this.#now, timer.at);
      timer.action();
      await settled();
    }
    this.#now = until;
  }

  /** The process is stopped for a while: timers that became due meanwhile fire late, all of them now. */
  skip(byMs: number): void {
    this.#now += byMs;
    for (let timer = this.#next(this.#now); timer !== undefined; timer = this.#next(this.#now)) {
      this.#timers.delete(timer);
      timer.action();
    }
  }

  #next(until: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.at <= until && (next === undefined || timer.at < next.at)) next = timer;
    }
    return next;
  }
}
