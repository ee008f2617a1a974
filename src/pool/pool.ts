import type { GuestDriver } from '../guest/driver.js';
import type { CancelTimer, Clock } from '../lib/clock.js';
import { Emitter } from '../lib/emitter.js';
import { DroverError } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { hasProspect } from './demand.js';
import type { PoolEvent, PoolSnapshot } from './events.js';
import type { GuestRecord } from './guest-record.js';
import { Herd } from './herd.js';
import type { Lease, Leaser, LeaseRequest } from './lease.js';
import { plan } from './plan.js';
import type { PoolPolicy, RetireReason, Step } from './view.js';
import { isScratchFull } from './scratch.js';
import { isAlive } from './state.js';
import { WaitQueue } from './wait-queue.js';

export interface PoolOptions extends PoolPolicy {
  readonly bootTimeoutMs: number;
}

/**
 * The herd, who holds its job slots, and who waits for one.
 *
 * INVARIANTS: All state is written here, in the herd and in the wait queue, synchronously, and by nobody else. Every
 * change ends in `#settle`, which plans and applies until there is nothing to do, and only then tells observers. What
 * takes time (boots, stops) runs outside and comes back as one of the `#on…` methods.
 */
export class Pool implements Leaser {
  readonly events: Emitter<PoolEvent>;
  #options: PoolOptions;
  readonly #clock: Clock;
  readonly #herd: Herd;
  readonly #waiters: WaitQueue;
  #shuttingDown = false;
  #settling = false;
  #unsettled = false;
  #untold: PoolEvent[] = [];
  #telling = false;
  #cancelWake: CancelTimer | undefined;

  constructor(driver: GuestDriver, options: PoolOptions, clock: Clock, log: Log) {
    this.#options = options;
    this.#clock = clock;
    this.events = new Emitter((error) => {
      log.error({ err: error }, 'an observer of the pool failed');
    });
    const emit = (event: PoolEvent): void => void this.#untold.push(event);
    const onChange = (): void => {
      this.#settle();
    };
    this.#herd = new Herd({
      driver,
      bootTimeoutMs: options.bootTimeoutMs,
      clock,
      log,
      emit,
      onChange,
      // Whoever has another guest to wait for goes on waiting for that one.
      onGiveUp: (error) => {
        const { guests } = this.#herd;
        this.#waiters.refuse(error, (waiter) => !hasProspect(waiter, guests));
      },
    });
    this.#waiters = new WaitQueue({ now: () => clock.now(), emit, onLeft: onChange });
  }

  /** Boots the guests that are to be kept warm. */
  start(): void {
    this.#settle();
  }

  /** From now on these limits hold, and guests are made by this driver; those of another generation drain. */
  configure(options: PoolOptions, driver: GuestDriver): void {
    this.#options = options;
    this.#herd.configure(driver, options.bootTimeoutMs);
    this.#settle();
  }

  async lease(request: LeaseRequest): Promise<Lease> {
    request.signal.throwIfAborted();
    if (this.#shuttingDown) throw shuttingDown();
    const lease = this.#waiters.add(request);
    this.#settle();
    return await lease;
  }

  snapshot(): PoolSnapshot {
    const { guests } = this.#herd;
    return {
      guests: guests.map((guest) => guest.snapshot(this.#clock.now())),
      waiting: this.#waiters.size,
      leases: guests.reduce((sum, guest) => sum + guest.leases, 0),
    };
  }

  /** No more leases; settles when the last guest is gone. Leases that are held run to their end, unless `kill` comes. */
  async drain(): Promise<void> {
    this.#shuttingDown = true;
    this.#waiters.refuse(shuttingDown());
    this.#settle();
    await this.#herd.empty();
  }

  /** Ends all guests at once, whoever uses them. One that cannot be killed is logged, and not waited for. */
  async kill(): Promise<void> {
    const drained = this.drain();
    for (const guest of this.#herd.guests) this.#herd.kill(guest, shuttingDown());
    await drained;
  }

  /** INVARIANT: never runs inside itself, so no step sees a half-applied plan. */
  #settle(): void {
    this.#unsettled = true;
    if (this.#settling) return;
    this.#settling = true;
    try {
      while (this.#takeUnsettled()) {
        const { steps, wakeAt } = plan(this.#view(), this.#options, this.#clock.now());
        for (const step of steps) this.#apply(step);
        if (steps.length > 0) this.#unsettled = true;
        else this.#wakeAt(wakeAt);
      }
    } finally {
      this.#settling = false;
    }
    this.#tell();
  }

  #takeUnsettled(): boolean {
    const was = this.#unsettled;
    this.#unsettled = false;
    return was;
  }

  /** Observers may call back into the pool: what comes of that is told after what they are being told. */
  #tell(): void {
    if (this.#telling) return;
    this.#telling = true;
    try {
      for (const event of this.#untold) this.events.emit(event);
    } finally {
      this.#untold = [];
      this.#telling = false;
    }
  }

  #view(): Parameters<typeof plan>[0] {
    return {
      guests: this.#herd.guests,
      waiters: this.#waiters.view(),
      bootNotBefore: this.#herd.bootNotBefore,
      shuttingDown: this.#shuttingDown,
    };
  }

  #wakeAt(time: number | undefined): void {
    this.#cancelWake?.();
    this.#cancelWake =
      time === undefined
        ? undefined
        : this.#clock.after(time - this.#clock.now(), () => {
            this.#settle();
          });
  }

  #apply(step: Step): void {
    switch (step.type) {
      case 'boot':
        this.#herd.boot();
        return;
      case 'grant':
        this.#grant(step.waiter, this.#herd.get(step.guest));
        return;
      case 'drain':
        this.#herd.drain(this.#herd.get(step.guest), step.reason);
        return;
      case 'destroy':
        this.#herd.destroy(this.#herd.get(step.guest));
        return;
    }
  }

  #grant(waiterId: number, guest: GuestRecord): void {
    const { leased } = guest;
    if (leased === undefined)
      throw new DroverError('ILLEGAL_TRANSITION', `The guest ${guest.id} does not run yet`);
    this.#herd.move(guest, 'leased');
    guest.leases += 1;
    guest.builds += 1;
    let returned = false;
    this.#waiters.grant(waiterId, {
      guest: leased,
      get shared() {
        return guest.builds > 1;
      },
      retire: (reason) => {
        this.#retire(guest, reason);
      },
      [Symbol.asyncDispose]: () => {
        if (!returned) {
          returned = true;
          this.#onReturned(guest);
        }
        return Promise.resolve();
      },
    });
  }

  #onReturned(guest: GuestRecord): void {
    guest.leases -= 1;
    guest.idleSince = this.#clock.now();
    this.#untold.push({ type: 'lease-returned', guest: guest.id });
    if (isAlive(guest.state) && guest.leases === 0) this.#herd.move(guest, 'returned');
    this.#settle();
    // Now, and not while a build goes on that it would take the processor from.
    if (isAlive(guest.state)) guest.leased?.agent.prepareRegister();
    void isScratchFull(guest, this.#clock, this.#herd.logOf(guest)).then((full) => {
      if (full) this.#retire(guest, 'scratch');
    });
  }

  #retire(guest: GuestRecord, reason: RetireReason): void {
    guest.retire ??= reason;
    this.#settle();
  }
}

function shuttingDown(): DroverError {
  return new DroverError('SHUTTING_DOWN', 'Drover is shutting down', {
    hint: 'Try again when it runs again.',
  });
}
