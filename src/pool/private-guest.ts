import { GuestAgent } from '../guest/agent.js';
import type { GuestDriver, OwnGuestOptions, RunningGuest } from '../guest/driver.js';
import { GuestStore, type Inputs } from '../guest/provision.js';
import type { CancelTimer, Clock } from '../lib/clock.js';
import { DroverError } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { withDaemon } from './guest-daemon.js';
import { bootGuest, stopGuest } from './lifecycle.js';
import { usageOf, type GuestUsage } from './scratch.js';

/** A guest is asked this often how much it uses, in milliseconds; a program that ends sooner costs nothing. */
const STATS_INTERVAL_MS = 5_000;

export interface PrivateGuestOptions {
  readonly id: string;
  readonly own: OwnGuestOptions;
  readonly bootTimeoutMs: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Gives up the boot. */
  readonly signal: AbortSignal;
  /** Nothing of the guest is left. */
  readonly onEnded: () => void;
}

/** A guest that serves one person, and no session. Disposing of it ends it. */
export class PrivateGuest implements AsyncDisposable {
  readonly id: string;
  readonly #driver: GuestDriver;
  readonly #running: RunningGuest;
  readonly #store: GuestStore;
  readonly #agent: GuestAgent;
  readonly #options: PrivateGuestOptions;
  #usage: GuestUsage = { scratch: undefined, memory: undefined };
  #ended = false;
  #cancelStats: CancelTimer | undefined;
  readonly #lost = new AbortController();

  private constructor(driver: GuestDriver, running: RunningGuest, options: PrivateGuestOptions) {
    const { id, log } = options;
    this.id = id;
    this.#driver = driver;
    this.#running = running;
    this.#options = options;
    this.#agent = new GuestAgent(running);
    this.#store = new GuestStore(this.#agent, log, running);
    this.#askForUsage();
    void running.exited.then((how) => {
      this.#lost.abort(new DroverError('GUEST_LOST', `The guest ${id} was lost: ${how}`));
    });
  }

  /** @throws DroverError `BOOT_FAILED` */
  static async boot(driver: GuestDriver, options: PrivateGuestOptions): Promise<PrivateGuest> {
    const { id, own, bootTimeoutMs, clock, signal } = options;
    const running = await bootGuest(driver, { id, signal, timeoutMs: bootTimeoutMs, clock, own });
    return new PrivateGuest(driver, running, options);
  }

  /** Aborts when the guest is gone, with the reason. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get start(): RunningGuest['start'] {
    return (request) => this.#running.start(request);
  }

  /** As the guest said last. */
  get usage(): GuestUsage {
    return this.#usage;
  }

  #askForUsage(): void {
    const { clock, log } = this.#options;
    this.#cancelStats = clock.after(STATS_INTERVAL_MS, () => {
      void usageOf(this.#agent, this.#driver, clock)
        .then(
          ({ usage }) => {
            this.#usage = usage;
          },
          (error: unknown) => {
            log.debug({ err: error }, 'guest reported no statistics');
          },
        )
        .finally(() => {
          if (!this.#ended && !this.lost.aborted) this.#askForUsage();
        });
    });
  }

  /** Makes paths of the host's store valid in the guest. @throws DroverError `PROVISION_FAILED` */
  async provision(
    inputs: Inputs,
    host: Parameters<GuestStore['provision']>[1],
    signal: AbortSignal,
  ): Promise<void> {
    await withDaemon(this.#running, this.#driver, signal, async (daemon) => {
      await this.#store.provision(inputs, host, daemon, { signal });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#cancelStats?.();
    const { log, onEnded } = this.#options;
    await stopGuest(this.#running, log);
    onEnded();
  }
}
