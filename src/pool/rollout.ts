import type { GuestDriver } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import { errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import type { PoolEvent } from './events.js';

/** Guests of another generation that are not used yet, as `status` shows them. */
export interface RolloutSnapshot {
  readonly generation: string;
  /** `trying`: the first of them is being tried. `failed`: guests of the old generation continue. */
  readonly state: 'trying' | 'failed';
  readonly startedAt: string;
  /** Why the trial failed. */
  readonly error: string | null;
}

export interface RolloutOptions {
  /** Rejects if a guest of the driver does not boot and build. */
  readonly tryOut: (driver: GuestDriver, signal: AbortSignal) => Promise<void>;
  /** Uses the driver from now on. */
  readonly adopt: (driver: GuestDriver) => void;
  readonly emit: (event: PoolEvent) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Changes to guests of another generation, once the first of them has booted and built a line: a canary. Until then,
 * and for good if it fails, guests of the old generation serve all builds.
 */
export class Rollout {
  readonly #options: RolloutOptions;
  #snapshot: RolloutSnapshot | null = null;
  #abort = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(options: RolloutOptions) {
    this.#options = options;
  }

  /** Null if there is nothing to change to. */
  get snapshot(): RolloutSnapshot | null {
    return this.#snapshot;
  }

  /** Tries the driver's guests in the background, in place of those that are being tried. */
  begin(driver: GuestDriver): void {
    this.cancel();
    const abort = (this.#abort = new AbortController());
    const earlier = this.#running;
    this.#running = this.#run(driver, abort.signal, earlier);
  }

  /** Gives up what is being tried. */
  cancel(): void {
    this.#abort.abort(new Error('other guests are wanted meanwhile'));
    this.#snapshot = null;
  }

  /** Gives up, and settles when nothing of it is left. */
  async end(): Promise<void> {
    this.cancel();
    await this.#running;
  }

  /** Never rejects. */
  async #run(driver: GuestDriver, signal: AbortSignal, earlier: Promise<void>): Promise<void> {
    const { tryOut, adopt, emit, clock, log } = this.#options;
    const { generation } = driver.manifest;
    const startedAt = new Date(clock.wallNow()).toISOString();
    this.#snapshot = { generation, state: 'trying', startedAt, error: null };
    await earlier;
    const begun = clock.now();
    let error: unknown;
    try {
      await tryOut(driver, signal);
    } catch (cause) {
      error = cause;
    }
    if (signal.aborted) return;
    if (error === undefined) {
      this.#snapshot = null;
      adopt(driver);
      log.info({ generation }, 'new guests adopted');
    } else {
      this.#snapshot = { generation, state: 'failed', startedAt, error: errorMessage(error) };
      log.error({ generation, err: error }, 'new guests failed their trial; the old ones continue');
    }
    const result = error === undefined ? 'ok' : 'failed';
    emit({ type: 'rollout-finished', generation, result, durationMs: clock.now() - begun });
  }
}
