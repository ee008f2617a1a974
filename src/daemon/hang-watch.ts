import { afterAwake, type CancelTimer, type Clock } from '../lib/clock.js';

/** A nix-daemon that completes no handshake in this time hangs, in milliseconds. */
export const HANG_MS = 20_000;
/** Longest wait for one handshake, in milliseconds, while the daemon completes others. */
const MAX_MS = 120_000;

/** Handshakes of one guest's nix-daemon. With many at once it is slow, and does not hang. */
export class Handshakes {
  #completed = 0;

  get completed(): number {
    return this.#completed;
  }

  noteCompleted(): void {
    this.#completed += 1;
  }

  /**
   * Begins a handshake: `onLate` is called once the daemon has completed none for 20 s, or this one has taken 120 s.
   * The time in which the supervisor itself was stopped does not count.
   * @returns a function that ends the watch
   */
  watch(clock: Clock, onLate: (seconds: number) => void, waitedMs = 0): CancelTimer {
    const before = this.#completed;
    let cancel = afterAwake(clock, HANG_MS, () => {
      const waited = waitedMs + HANG_MS;
      if (this.#completed === before) onLate(HANG_MS / 1000);
      else if (waited >= MAX_MS) onLate(waited / 1000);
      else cancel = this.watch(clock, onLate, waited);
    });
    return () => {
      cancel();
    };
  }
}
