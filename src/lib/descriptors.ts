import { readdirSync } from 'node:fs';

import type { Clock } from './clock.js';
import type { DroverError } from './errors.js';
import { exhaustion } from './exhaustion.js';

/** Descriptors kept free for builds that run: their connections, commands in guests, and boots. */
const MAX_RESERVE = 128;
/** Share of a small limit that is kept free. */
const RESERVE_RATIO = 1 / 8;
/** Counting takes a while where there are thousands, so a count is used for this long, in milliseconds. */
const COUNT_AGE_MS = 100;

/** Tells how close this process is to its limit of open files. */
export class DescriptorBudget {
  readonly #limit: number;
  readonly #clock: Clock;
  #used = 0;
  #countedAt = -Infinity;

  /** @param limit of this process: `descriptorLimit()` */
  constructor(limit: number, clock: Clock) {
    this.#limit = limit;
    this.#clock = clock;
  }

  /** Why no further session should begin; undefined if there are descriptors for it. */
  shortage(): DroverError | undefined {
    const reserve = Math.min(MAX_RESERVE, Math.floor(this.#limit * RESERVE_RATIO));
    // Each session that was admitted since the last count has its connection.
    this.#used += 1;
    if (this.#clock.now() - this.#countedAt > COUNT_AGE_MS || this.#limit - this.#used <= reserve) {
      this.#used = openDescriptors() ?? this.#limit;
      this.#countedAt = this.#clock.now();
    }
    const left = this.#limit - this.#used;
    if (left > reserve) return undefined;
    const cause = Object.assign(new Error(`${left} of ${this.#limit} are left`), { code: 'EMFILE' });
    return exhaustion(cause, 'Drover cannot take another session');
  }
}

/** Undefined where no descriptor is left to count with. */
function openDescriptors(): number | undefined {
  try {
    // One of them is the directory's own.
    return readdirSync('/dev/fd').length - 1;
  } catch {
    return undefined;
  }
}
