import { once, setMaxListeners } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

/** Pauses between questions for the supervisor's health, and for its metrics, in milliseconds. */
const HEALTH_MS = 100;
const SCRAPE_MS = 5_000;
/** Open pages. */
const PAGES = 4;

/** Readers of the supervisor while it works: a Prometheus, and open pages, one of which never reads. */
export class Readers {
  readonly #port: number;
  readonly #signal: AbortSignal;
  #answersMs: number[] = [];
  /** Questions without an answer. */
  readonly failures: string[] = [];

  constructor(port: number, signal: AbortSignal) {
    this.#port = port;
    this.#signal = signal;
    // Each open request is one.
    setMaxListeners(100, signal);
  }

  /** Settles when the signal aborts. */
  async run(): Promise<void> {
    await Promise.all([
      this.#repeat(HEALTH_MS, async () => {
        const begun = performance.now();
        await this.#fetch('/healthz');
        this.#answersMs.push(performance.now() - begun);
      }),
      this.#repeat(SCRAPE_MS, () => this.#fetch('/metrics')),
      this.#repeat(SCRAPE_MS, () => this.#fetch('/')),
      this.#repeat(SCRAPE_MS, () => this.#fetch('/history')),
      ...Array.from({ length: PAGES }, () => this.#repeat(1_000, () => this.#fetch('/live'))),
      // It is cut off after some time, and comes back.
      this.#repeat(1_000, () => this.#stall('/live')),
    ]);
  }

  /** Durations of all answers since this was last called, in milliseconds. */
  takeAnswers(): readonly number[] {
    const answers = this.#answersMs;
    this.#answersMs = [];
    return answers;
  }

  async #repeat(pauseMs: number, action: () => Promise<void>): Promise<void> {
    while (!this.#signal.aborted) {
      await action().catch((error: unknown) => {
        if (!this.#signal.aborted) this.failures.push(String(error));
      });
      await sleep(pauseMs, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  }

  /** Reads an answer to its end. */
  async #fetch(path: string): Promise<void> {
    const response = await this.#open(path);
    await once(response.resume(), 'end');
  }

  async #stall(path: string): Promise<void> {
    const response = await this.#open(path);
    response.pause();
    await new Promise((resolve) => response.once('close', resolve).once('error', resolve));
  }

  async #open(path: string): Promise<IncomingMessage> {
    return await new Promise((resolve, reject) => {
      get({ host: '127.0.0.1', port: this.#port, path, agent: false, signal: this.#signal }, (response) => {
        if (response.statusCode === 200) resolve(response);
        else reject(new Error(`${path} answers ${response.statusCode ?? 0}`));
      }).on('error', reject);
    });
  }
}
