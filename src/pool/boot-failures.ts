import type { DroverError } from '../lib/errors.js';
import { isDiskFull, isExhaustion } from '../lib/exhaustion.js';

/**
 * After boots have failed for too long, guests boot only for waiters that no other guest can serve, in milliseconds.
 */
const GIVE_UP_MS = 30_000;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 30_000;

/** Boots that have failed in a row, as `status` shows it. */
export interface BootFailuresSnapshot {
  readonly count: number;
  /** Why the last one failed. */
  readonly last: string;
}

/**
 * Decides when to boot again after boots have failed, and when to reject the sessions that wait for it.
 *
 * If no boot has ever worked with this configuration, the second failure in a row rejects them: the
 * configuration is wrong, and waiting does not help; the same holds for a full disk. Otherwise the trouble
 * may pass: the first retry comes at once, later ones back off, and sessions are rejected only after boots
 * have failed for as long as a boot may take.
 */
export class BootFailures {
  #count = 0;
  #worked = false;
  #since = 0;
  #lastAt = -Infinity;
  #last: DroverError | undefined;
  /** Boots that failed since the last time that a boot worked or sessions were refused. */
  #attempts = 0;
  #retryAt = 0;
  #notBefore = 0;

  /** See `Conditions.retryBootAt`. */
  get retryAt(): number {
    return this.#retryAt;
  }

  /** See `Conditions.bootNotBefore`. */
  get notBefore(): number {
    return this.#notBefore;
  }

  /** A boot that begins now is a retry: if it fails too, sessions that wait for it may be refused. */
  get isRetry(): boolean {
    return this.#attempts > 0;
  }

  get snapshot(): BootFailuresSnapshot | null {
    return this.#last === undefined ? null : { count: this.#count, last: this.#last.message };
  }

  /**
   * The configuration has been read again: boots are worth a try.
   * @param another guests are made in another way: that boots worked before proves nothing
   */
  reset(another: boolean): void {
    const worked = this.#worked && !another;
    this.onBooted();
    this.#worked = worked;
  }

  onBooted(): void {
    this.#worked = true;
    this.#count = 0;
    this.#attempts = 0;
    this.#last = undefined;
    this.#retryAt = 0;
    this.#notBefore = 0;
  }

  /** @returns whether to refuse the sessions that wait for a boot */
  onFailed(error: DroverError, wasRetry: boolean, now: number, bootTimeoutMs: number): boolean {
    if (now - this.#lastAt > bootTimeoutMs + LONGEST_RETRY_MS) this.#attempts = this.#count = 0;
    if (this.#count === 0) this.#since = now;
    this.#lastAt = now;
    this.#last = error;
    this.#count += 1;
    this.#attempts += 1;
    if (this.#worked && this.#attempts > 1)
      this.#retryAt = now + Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (this.#attempts - 2));
    const giveUp = wasRetry && (this.#isLasting(error) || now - this.#since >= bootTimeoutMs);
    if (giveUp) this.backOff(now);
    if (giveUp && !this.#worked) this.#attempts = 0;
    return giveUp;
  }

  /** Whether waiting does not help. A lack of descriptors, processes or memory passes when other work ends. */
  #isLasting(error: DroverError): boolean {
    return isDiskFull(error) || !(this.#worked || isExhaustion(error));
  }

  /** No session waits for a boot any more: the next boot counts as a first one. */
  onUnwanted(): void {
    if (!this.#worked) this.#attempts = 0;
  }

  /** Boots only what is needed for a while. */
  backOff(now: number): void {
    this.#notBefore = now + GIVE_UP_MS;
  }
}
