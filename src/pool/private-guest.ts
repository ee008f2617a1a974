import { GuestAgent } from '../guest/agent.js';
import type { GuestDriver, OwnGuestOptions, RunningGuest } from '../guest/driver.js';
import { GuestStore, type Inputs } from '../guest/provision.js';
import type { Clock } from '../lib/clock.js';
import { DroverError } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { withDaemon } from './guest-daemon.js';
import { bootGuest, stopGuest } from './lifecycle.js';

export interface PrivateGuestOptions {
  readonly id: string;
  readonly own: OwnGuestOptions;
  readonly bootTimeoutMs: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Gives up the boot. */
  readonly signal: AbortSignal;
}

/** A guest that serves one person, and no session. Disposing of it ends it. */
export class PrivateGuest implements AsyncDisposable {
  readonly id: string;
  readonly #driver: GuestDriver;
  readonly #running: RunningGuest;
  readonly #store: GuestStore;
  readonly #log: Log;
  readonly #lost = new AbortController();

  private constructor(driver: GuestDriver, running: RunningGuest, { id, log }: PrivateGuestOptions) {
    this.id = id;
    this.#driver = driver;
    this.#running = running;
    this.#log = log;
    this.#store = new GuestStore(new GuestAgent(running), log, running);
    void running.exited.then((how) => {
      this.#lost.abort(new DroverError('GUEST_LOST', `The guest ${id} was lost: ${how}`));
    });
  }

  /** @throws DroverError `BOOT_FAILED` */
  static async boot(driver: GuestDriver, options: PrivateGuestOptions): Promise<PrivateGuest> {
    const { id, own, bootTimeoutMs, clock, signal } = options;
    const running = await bootGuest(driver, id, signal, bootTimeoutMs, clock, own);
    return new PrivateGuest(driver, running, options);
  }

  /** Aborts when the guest is gone, with the reason. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get start(): RunningGuest['start'] {
    return (request) => this.#running.start(request);
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
    await stopGuest(this.#running, this.#log);
  }
}
