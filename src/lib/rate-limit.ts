import type { Clock } from './clock.js';

interface Bucket {
  tokens: number;
  at: number;
  suppressed: number;
}

/**
 * Limits the rate of each kind of event: `burst` at once, and one more every `intervalMs`. There must be few
 * kinds: all of them are remembered.
 */
export class RateLimit {
  readonly #buckets = new Map<string, Bucket>();
  readonly #clock: Pick<Clock, 'now'>;
  readonly #burst: number;
  readonly #intervalMs: number;

  constructor(
    clock: Pick<Clock, 'now'>,
    { burst, intervalMs }: { readonly burst: number; readonly intervalMs: number },
  ) {
    this.#clock = clock;
    this.#burst = burst;
    this.#intervalMs = intervalMs;
  }

  /** Undefined if there have been too many; otherwise how many were suppressed since the last one that was not. */
  take(kind: string): number | undefined {
    const now = this.#clock.now();
    const bucket = this.#buckets.get(kind) ?? { tokens: this.#burst, at: now, suppressed: 0 };
    this.#buckets.set(kind, bucket);
    bucket.tokens = Math.min(this.#burst, bucket.tokens + (now - bucket.at) / this.#intervalMs);
    bucket.at = now;
    if (bucket.tokens < 1) {
      bucket.suppressed += 1;
      return undefined;
    }
    bucket.tokens -= 1;
    const { suppressed } = bucket;
    bucket.suppressed = 0;
    return suppressed;
  }
}
