import type { WorkerClient } from '../daemon/worker-client.js';
import type { CancelTimer, Clock } from '../lib/clock.js';

/** Lifetime of an unused connection, in milliseconds. */
const SPARE_MS = 60_000;

/**
 * Has a connection ready for the next session once one has ended: the daemon starts a process for each, which takes a
 * while. Nothing has been asked of it, so it holds no pins and no answers.
 */
export class SpareConnection {
  readonly #open: () => Promise<WorkerClient>;
  readonly #clock: Clock;
  #spare: Promise<WorkerClient | undefined> | undefined;
  #cancelExpiry: CancelTimer = () => undefined;
  #closed = false;

  constructor(open: () => Promise<WorkerClient>, clock: Clock) {
    this.#open = open;
    this.#clock = clock;
  }

  /** Returns a connection that has never been used. */
  async connect(): Promise<WorkerClient> {
    const spare = await this.#take();
    const client = spare === undefined || spare.gone.aborted ? await this.#open() : spare;
    client.channel.stream.once('close', () => {
      this.#prepare();
    });
    return client;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#expire();
  }

  #take(): Promise<WorkerClient | undefined> | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    this.#cancelExpiry();
    return spare;
  }

  #prepare(): void {
    if (this.#closed || this.#spare !== undefined) return;
    // The next session reports why there is none.
    this.#spare = this.#open().catch(() => undefined);
    this.#cancelExpiry = this.#clock.after(SPARE_MS, () => void this.#expire());
  }

  async #expire(): Promise<void> {
    await (await this.#take())?.[Symbol.asyncDispose]();
  }
}
