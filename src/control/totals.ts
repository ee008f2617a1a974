import type { DroverEvent, Totals } from './api.js';

/** Adds events up. */
export class TotalsCounter {
  readonly #totals = {
    guestsBooted: 0,
    builds: 0,
    failedBuilds: 0,
    replayedBuilds: 0,
    sharedPaths: 0,
    sharedBytes: 0,
    copiedPaths: 0,
    copiedBytes: 0,
  };

  get totals(): Totals {
    return { ...this.#totals };
  }

  count(event: DroverEvent): void {
    const totals = this.#totals;
    if (event.type === 'boot-finished' && event.result === 'ok') totals.guestsBooted += 1;
    if (event.type === 'build-replayed') totals.replayedBuilds += 1;
    if (event.type === 'build-finished') {
      totals.builds += 1;
      if (!event.succeeded) totals.failedBuilds += 1;
    }
    if (event.type === 'provisioned') {
      totals.sharedPaths += event.sharedPaths;
      totals.sharedBytes += event.sharedBytes;
      totals.copiedPaths += event.copiedPaths;
      totals.copiedBytes += event.copiedBytes;
    }
  }
}
