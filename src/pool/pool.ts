import type { GuestDriver, RunningGuest } from '../drivers/driver.js';
import type { CancelTimer, Clock } from '../lib/clock.js';
import { Emitter } from '../lib/emitter.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import type { PoolEvent, PoolSnapshot } from './events.js';
import { GuestRecord } from './guest-record.js';
import type { Lease, Leaser, LeaseRequest } from './lease.js';
import { plan, type PoolPolicy, type RetireReason, type Step } from './plan.js';
import { isAlive, transition, type GuestEvent } from './state.js';

/** How long no guest is booted for the sake of being warm after boots have failed, in milliseconds. */
const BOOT_BACKOFF_MS = 30_000;
/** A guest is asked at most so often how full its scratch is, in milliseconds. */
const STATS_INTERVAL_MS = 5_000;
/** A guest whose scratch is fuller than this is retired: builds start with room, or in another guest. */
const SCRATCH_RETIRE_RATIO = 0.8;

export interface PoolOptions extends PoolPolicy {
  readonly bootTimeoutMs: number;
}

interface Waiter {
  readonly id: number;
  readonly avoid: ReadonlySet<string>;
  readonly since: number;
  readonly resolve: (lease: Lease) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The herd: guests, who holds their job slots, and who waits for one.
 *
 * INVARIANTS: All state is written here, synchronously, and by nobody else. Every change ends in `#settle`, which
 * plans and applies until there is nothing to do. What takes time (boots, stops) runs outside and comes back as
 * one of the `#on…` methods.
 */
export class Pool implements Leaser {
  readonly events: Emitter<PoolEvent>;
  readonly #driver: GuestDriver;
  readonly #options: PoolOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #guests = new Map<string, GuestRecord>();
  #waiters: Waiter[] = [];
  #guestCount = 0;
  #waiterCount = 0;
  #failedBoots = 0;
  #bootNotBefore = 0;
  #shuttingDown = false;
  #settling = false;
  #unsettled = false;
  #cancelWake: CancelTimer | undefined;
  #onEmpty: (() => void)[] = [];

  constructor(driver: GuestDriver, options: PoolOptions, clock: Clock, log: Log) {
    this.#driver = driver;
    this.#options = options;
    this.#clock = clock;
    this.#log = log;
    this.events = new Emitter((error) => {
      log.error({ err: error }, 'an observer of the pool failed');
    });
  }

  /** Boots the guests that are to be kept warm. */
  start(): void {
    this.#settle();
  }

  async lease({ avoid = new Set(), signal }: LeaseRequest): Promise<Lease> {
    signal.throwIfAborted();
    if (this.#shuttingDown) throw shuttingDown();
    const since = this.#clock.now();
    const id = this.#waiterCount++;
    return await new Promise<Lease>((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiters = this.#waiters.filter((waiter) => waiter.id !== id);
        this.events.emit({ type: 'lease-refused', waitedMs: this.#clock.now() - since });
        reject(signal.reason as Error);
        this.#settle();
      };
      const done = (): void => {
        signal.removeEventListener('abort', onAbort);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.push({
        id,
        avoid,
        since,
        resolve: (lease) => {
          done();
          resolve(lease);
        },
        reject: (error) => {
          done();
          this.events.emit({ type: 'lease-refused', waitedMs: this.#clock.now() - since });
          reject(error as Error);
        },
      });
      this.events.emit({ type: 'lease-waiting' });
      // Somebody needs a guest: that boots failed a while ago is no reason not to try.
      this.#bootNotBefore = 0;
      this.#settle();
    });
  }

  snapshot(): PoolSnapshot {
    const alive = [...this.#guests.values()];
    return {
      guests: alive.map((guest) => guest.snapshot(this.#driver, this.#clock.now())),
      waiting: this.#waiters.length,
      leases: alive.reduce((sum, guest) => sum + guest.leases, 0),
    };
  }

  /** No more leases; settles when the last guest is gone. Leases that are held run to their end, unless `kill` comes. */
  async drain(): Promise<void> {
    this.#shuttingDown = true;
    this.#rejectWaiters(shuttingDown());
    this.#settle();
    if (this.#guests.size === 0) return;
    await new Promise<void>((resolve) => this.#onEmpty.push(resolve));
  }

  /** Ends all guests at once, whoever uses them. */
  async kill(): Promise<void> {
    this.#shuttingDown = true;
    this.#rejectWaiters(shuttingDown());
    for (const guest of this.#guests.values()) {
      guest.bootAbort.abort(shuttingDown());
      void guest.running?.kill();
    }
    await this.drain();
  }

  /** INVARIANT: never runs inside itself, so no step sees a half-applied plan. */
  #settle(): void {
    this.#unsettled = true;
    if (this.#settling) return;
    this.#settling = true;
    while (this.#takeUnsettled()) {
      const { steps, wakeAt } = plan(this.#view(), this.#options, this.#clock.now());
      for (const step of steps) this.#apply(step);
      if (steps.length > 0) this.#unsettled = true;
      this.#wakeAt(wakeAt);
    }
    this.#settling = false;
  }

  #takeUnsettled(): boolean {
    const was = this.#unsettled;
    this.#unsettled = false;
    return was;
  }

  #view(): Parameters<typeof plan>[0] {
    return {
      guests: [...this.#guests.values()],
      waiters: this.#waiters,
      bootNotBefore: this.#bootNotBefore,
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
        this.#boot();
        return;
      case 'grant':
        this.#grant(step.waiter, this.#get(step.guest));
        return;
      case 'drain': {
        const guest = this.#get(step.guest);
        guest.retire = step.reason;
        this.#move(guest, 'drain', step.reason);
        this.events.emit({ type: 'guest-retired', guest: guest.id, reason: step.reason });
        return;
      }
      case 'destroy':
        this.#destroy(this.#get(step.guest));
        return;
    }
  }

  #boot(): void {
    const guest = new GuestRecord(
      `g${++this.#guestCount}`,
      this.#clock.now(),
      this.#clock.wallNow(),
      this.#failedBoots > 0,
    );
    this.#guests.set(guest.id, guest);
    this.events.emit({
      type: 'guest-state',
      guest: guest.id,
      from: undefined,
      to: 'booting',
      reason: undefined,
    });
    this.#log.info({ guest: guest.id }, 'booting a guest');
    const cancelTimeout = this.#clock.after(this.#options.bootTimeoutMs, () => {
      guest.bootAbort.abort(
        new DroverError('BOOT_TIMEOUT', `it was not ready after ${this.#options.bootTimeoutMs / 1000} s`),
      );
    });
    this.#driver
      .boot({ id: guest.id, signal: guest.bootAbort.signal })
      .finally(cancelTimeout)
      .then(
        (running) => {
          this.#onBooted(guest, running);
        },
        (error: unknown) => {
          this.#onBootFailed(guest, error);
        },
      );
  }

  #onBooted(guest: GuestRecord, running: RunningGuest): void {
    const durationMs = this.#clock.now() - guest.bornAt;
    guest.attach(running, this.#log.child({ guest: guest.id }));
    guest.idleSince = this.#clock.now();
    guest.bootedWall = this.#clock.wallNow();
    this.#failedBoots = 0;
    this.events.emit({ type: 'boot-finished', guest: guest.id, result: 'ok', durationMs });
    this.#log.info({ guest: guest.id, durationMs: Math.round(durationMs) }, 'guest is ready');
    void running.exited.then((how) => {
      this.#onExited(guest, how);
    });
    if (guest.state === 'booting') this.#move(guest, 'booted');
    // Its boot was given up, too late to stop it.
    else if (guest.stopping) void running.stop();
    this.#settle();
  }

  #onBootFailed(guest: GuestRecord, error: unknown): void {
    this.#guests.delete(guest.id);
    if (guest.state === 'draining') {
      this.#move(guest, 'ended');
    } else {
      this.#move(guest, 'failed', errorMessage(error));
      this.events.emit({
        type: 'boot-finished',
        guest: guest.id,
        result: 'failed',
        durationMs: this.#clock.now() - guest.bornAt,
      });
      this.#log.error({ guest: guest.id, err: error }, 'a guest did not boot');
      this.#failedBoots += 1;
      if (guest.isRetry) this.#giveUpBooting(error);
    }
    this.#noteEmpty();
    this.#settle();
  }

  /** A boot has failed, and its retry too. Whoever has another guest to wait for goes on waiting for that one. */
  #giveUpBooting(error: unknown): void {
    this.#failedBoots = 0;
    this.#bootNotBefore = this.#clock.now() + BOOT_BACKOFF_MS;
    const others = [...this.#guests.values()].some(
      (guest) => guest.state !== 'draining' && isAlive(guest.state),
    );
    if (!others) this.#rejectWaiters(error);
  }

  #onExited(guest: GuestRecord, how: string): void {
    this.#guests.delete(guest.id);
    if (guest.state === 'draining' && guest.stopping) {
      this.#move(guest, 'ended');
      this.#log.info({ guest: guest.id, reason: guest.retire }, 'guest is gone');
    } else {
      this.#move(guest, 'failed', how);
      this.#log.error({ guest: guest.id, how, leases: guest.leases }, 'a guest was lost');
    }
    guest.markLost(how);
    this.#noteEmpty();
    this.#settle();
  }

  #grant(waiterId: number, guest: GuestRecord): void {
    const waiter = this.#waiters.find(({ id }) => id === waiterId);
    const { leased } = guest;
    if (waiter === undefined || leased === undefined) return;
    this.#waiters = this.#waiters.filter((other) => other !== waiter);
    this.#move(guest, 'leased');
    guest.leases += 1;
    guest.builds += 1;
    this.events.emit({ type: 'lease-granted', guest: guest.id, waitedMs: this.#clock.now() - waiter.since });
    let returned = false;
    waiter.resolve({
      guest: leased,
      retire: (reason) => {
        this.#retire(guest, reason);
      },
      [Symbol.asyncDispose]: () => {
        if (!returned) this.#onReturned(guest);
        returned = true;
        return Promise.resolve();
      },
    });
  }

  #onReturned(guest: GuestRecord): void {
    guest.leases -= 1;
    guest.idleSince = this.#clock.now();
    this.events.emit({ type: 'lease-returned', guest: guest.id });
    if (!isAlive(guest.state)) return;
    if (guest.leases === 0) this.#move(guest, 'returned');
    this.#checkScratch(guest);
    this.#settle();
  }

  #checkScratch(guest: GuestRecord): void {
    const now = this.#clock.now();
    if (guest.leased === undefined || guest.state === 'draining' || now - guest.statsAt < STATS_INTERVAL_MS)
      return;
    guest.statsAt = now;
    guest.leased.agent.stats().then(
      ({ scratchUsedBytes, scratchTotalBytes }) => {
        if (scratchUsedBytes > scratchTotalBytes * SCRATCH_RETIRE_RATIO) this.#retire(guest, 'scratch');
      },
      (error: unknown) => {
        this.#log.debug({ guest: guest.id, err: error }, 'a guest did not tell its statistics');
      },
    );
  }

  #retire(guest: GuestRecord, reason: RetireReason): void {
    guest.retire ??= reason;
    this.#settle();
  }

  #destroy(guest: GuestRecord): void {
    guest.stopping = true;
    guest.bootAbort.abort(new DroverError('BOOT_CANCELLED', 'nobody needs it any more'));
    void guest.running?.stop();
  }

  #rejectWaiters(error: unknown): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(error);
  }

  #noteEmpty(): void {
    if (this.#guests.size > 0) return;
    for (const resolve of this.#onEmpty.splice(0)) resolve();
  }

  #move(guest: GuestRecord, event: GuestEvent, reason?: string): void {
    const from = guest.state;
    guest.state = transition(from, event);
    if (guest.state !== from)
      this.events.emit({ type: 'guest-state', guest: guest.id, from, to: guest.state, reason });
  }

  #get(id: string): GuestRecord {
    const guest = this.#guests.get(id);
    if (guest === undefined) throw new DroverError('UNKNOWN_GUEST', `There is no guest ${id}`);
    return guest;
  }
}

function shuttingDown(): DroverError {
  return new DroverError('SHUTTING_DOWN', 'Drover is shutting down', {
    hint: 'Try again when it runs again.',
  });
}
