import type { BuildReport, StampedEvent } from '../control/api.js';
import type { Operator } from '../control/operator.js';
import type { Clock } from '../lib/clock.js';
import { errorCode } from '../lib/errors.js';
import type { Picture } from './live.js';
import { buildPicture } from './views/build.js';
import { guestPicture } from './views/guest.js';
import { overview } from './views/overview.js';
import { HOUR_MS } from './views/timeline.js';

/** Newest builds that the overview and the guests' pages look at. */
const MAX_BUILDS = 250;
/** Builds that began this long ago may have ended in the last hour, in milliseconds. */
const LOOK_BACK_MS = 24 * HOUR_MS;
/** The history is read at most this often while it changes, in milliseconds. */
const READ_EVERY_MS = 1_000;

/** Makes pages from what the supervisor knows at the moment. */
export class Pictures {
  readonly #operator: Pick<Operator, 'status' | 'builds' | 'build' | 'guestLog'>;
  readonly #clock: Clock;
  #builds: Promise<readonly BuildReport[] | undefined> | undefined;
  #readAt = -Infinity;
  #isStale = true;

  constructor(operator: Pick<Operator, 'status' | 'builds' | 'build' | 'guestLog'>, clock: Clock) {
    this.#operator = operator;
    this.#clock = clock;
  }

  noteEvent({ type }: StampedEvent): void {
    if (type === 'build-started' || type === 'build-finished') this.#isStale = true;
  }

  async overview(): Promise<Picture> {
    const builds = await this.#newestBuilds();
    return overview({ status: this.#operator.status(), builds, now: this.#clock.wallNow() });
  }

  /** @throws DroverError `UNKNOWN_BUILD`, `HISTORY_OFF` */
  async build(id: string): Promise<Picture> {
    return buildPicture(await this.#operator.build(id), this.#clock.wallNow());
  }

  async guest(id: string): Promise<Picture> {
    return guestPicture(id, this.#operator.status(), await this.#newestBuilds(), this.#clock.wallNow());
  }

  /** undefined where no history is kept. */
  async #newestBuilds(): Promise<readonly BuildReport[] | undefined> {
    const now = this.#clock.now();
    const isDue = this.#isStale && now - this.#readAt >= READ_EVERY_MS;
    if (this.#builds === undefined || isDue) {
      this.#isStale = false;
      this.#readAt = now;
      this.#builds = this.#operator
        .builds({ since: this.#clock.wallNow() - LOOK_BACK_MS, limit: MAX_BUILDS })
        .catch((error: unknown) => {
          if (errorCode(error) === 'HISTORY_OFF') return undefined;
          this.#isStale = true;
          throw error;
        });
    }
    return await this.#builds;
  }
}
