import type { GuestDriver, RunningGuest } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import type { PoolEvent } from './events.js';
import { GuestRecord } from './guest-record.js';
import { bootGuest, killGuest, stopGuest } from './lifecycle.js';
import { followNotices } from './notices.js';
import type { RetireReason } from './view.js';
import { transition, type GuestEvent } from './state.js';

/** How long guests are booted only for waiters that have no other after boots have failed, in milliseconds. */
const BOOT_BACKOFF_MS = 30_000;

export interface HerdOptions {
  readonly driver: GuestDriver;
  readonly bootTimeoutMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly emit: (event: PoolEvent) => void;
  /** A guest has booted or is gone. */
  readonly onChange: () => void;
  /** A boot has failed, and its retry too. */
  readonly onGiveUp: (error: Error) => void;
}

/**
 * The guests that there are: makes them, ends them, and keeps their states. Part of the pool, which alone calls it.
 *
 * INVARIANT: A guest is in here from before the driver is asked to boot it until nothing of it is left on the host.
 */
export class Herd {
  #options: HerdOptions;
  readonly #guests = new Map<string, GuestRecord>();
  #count = 0;
  /** Since a guest has booted, or the herd gave up. */
  #failedBoots = 0;
  #bootNotBefore = 0;
  #onEmpty: (() => void)[] = [];

  constructor(options: HerdOptions) {
    this.#options = options;
  }

  get guests(): readonly GuestRecord[] {
    return [...this.#guests.values()];
  }

  /** See `Snapshot.bootNotBefore`. */
  get bootNotBefore(): number {
    return this.#bootNotBefore;
  }

  /** Guests are made by this driver from now on. Those of another generation get no more leases. */
  configure(driver: GuestDriver, bootTimeoutMs: number): void {
    this.#options = { ...this.#options, driver, bootTimeoutMs };
    for (const guest of this.#guests.values()) {
      if (guest.driver.manifest.generation !== driver.manifest.generation) guest.retire ??= 'stale';
    }
  }

  get(id: string): GuestRecord {
    const guest = this.#guests.get(id);
    if (guest === undefined) throw new DroverError('UNKNOWN_GUEST', `There is no guest ${id}`);
    return guest;
  }

  /** Settles when the last guest is gone. */
  async empty(): Promise<void> {
    if (this.#guests.size > 0) await new Promise<void>((resolve) => this.#onEmpty.push(resolve));
  }

  boot(): void {
    const { driver, bootTimeoutMs, clock, emit, log } = this.#options;
    const id = `g${++this.#count}`;
    const guest = new GuestRecord(id, driver, clock.now(), clock.wallNow(), this.#failedBoots > 0);
    this.#guests.set(id, guest);
    emit({ type: 'guest-state', guest: id, from: undefined, to: 'booting', reason: undefined });
    log.info({ guest: id }, 'booting a guest');
    bootGuest(driver, id, guest.bootAbort, bootTimeoutMs, clock).then(
      (running) => {
        this.#onBooted(guest, running);
      },
      (error: unknown) => {
        // `bootGuest` rejects with nothing else.
        this.#onBootFailed(guest, error as DroverError);
      },
    );
  }

  drain(guest: GuestRecord, reason: RetireReason): void {
    guest.retire = reason;
    this.move(guest, 'drain', reason);
    this.#options.emit({ type: 'guest-retired', guest: guest.id, reason });
  }

  /** Ends a guest that drains and that nobody uses. */
  destroy(guest: GuestRecord): void {
    guest.stopping = true;
    guest.bootAbort.abort(new DroverError('BOOT_CANCELLED', 'nobody needs it any more'));
    if (guest.running !== undefined) void stopGuest(guest.running, this.logOf(guest));
  }

  /**
   * Ends a guest that drains, whoever uses it. One that cannot be killed is logged, and taken out of the books.
   * @param reason what whoever uses it is told
   */
  kill(guest: GuestRecord, reason: DroverError): void {
    guest.stopping = true;
    guest.markLost(reason);
    guest.bootAbort.abort(new DroverError('BOOT_CANCELLED', reason.message));
    if (guest.running === undefined) return;
    void killGuest(guest.running, this.logOf(guest)).then((gone) => {
      if (!gone) this.#onExited(guest, 'it could not be killed');
    });
  }

  move(guest: GuestRecord, event: GuestEvent, reason?: string): void {
    const from = guest.state;
    const to = transition(from, event);
    guest.state = to;
    if (to !== from) this.#options.emit({ type: 'guest-state', guest: guest.id, from, to, reason });
  }

  logOf(guest: GuestRecord): Log {
    return this.#options.log.child({ guest: guest.id });
  }

  #onBooted(guest: GuestRecord, running: RunningGuest): void {
    const { clock, emit, onChange } = this.#options;
    const log = this.logOf(guest);
    guest.attach(running, clock.now(), clock.wallNow(), log);
    const durationMs = guest.readyAt - guest.bornAt;
    this.#failedBoots = 0;
    this.#bootNotBefore = 0;
    running.exited.then(
      (how) => {
        this.#onExited(guest, how);
      },
      (error: unknown) => {
        this.#onExited(guest, errorMessage(error));
      },
    );
    followNotices(guest, running, { clock, log, onChange });
    emit({ type: 'boot-finished', guest: guest.id, result: 'ok', durationMs });
    log.info({ durationMs: Math.round(durationMs) }, 'guest is ready');
    if (guest.state === 'booting') this.move(guest, 'booted');
    // Its boot was given up, too late to stop it.
    else void stopGuest(running, log);
    onChange();
  }

  #onBootFailed(guest: GuestRecord, error: DroverError): void {
    const { clock, emit, onChange, onGiveUp } = this.#options;
    this.#guests.delete(guest.id);
    if (guest.state === 'draining') {
      this.move(guest, 'ended');
    } else {
      const durationMs = clock.now() - guest.bornAt;
      this.move(guest, 'failed', errorMessage(error));
      emit({ type: 'boot-finished', guest: guest.id, result: 'failed', durationMs });
      this.logOf(guest).error({ err: error }, 'a guest did not boot');
      this.#failedBoots += 1;
      if (guest.isRetry) {
        this.#failedBoots = 0;
        this.#backOff();
        onGiveUp(error);
      }
    }
    this.#noteEmpty();
    onChange();
    // Nobody wanted a retry: the next boot is a first one again, whenever it comes.
    if (!this.guests.some(({ state }) => state === 'booting')) this.#failedBoots = 0;
  }

  #onExited(guest: GuestRecord, how: string): void {
    if (!this.#guests.delete(guest.id)) return;
    const log = this.logOf(guest);
    if (guest.state === 'draining' && guest.stopping) {
      this.move(guest, 'ended');
      log.info({ reason: guest.retire }, 'guest is gone');
    } else {
      this.move(guest, 'failed', how);
      log.error({ how, leases: guest.leases }, 'a guest was lost');
      // A guest that dies by itself before it was of any use is no better than one that does not boot.
      if (guest.builds === 0) this.#backOff();
    }
    guest.markLost(
      new DroverError('GUEST_LOST', `The guest ${guest.id} was lost: ${how}`, {
        context: { guest: guest.id },
      }),
    );
    this.#noteEmpty();
    this.#options.onChange();
  }

  #backOff(): void {
    this.#bootNotBefore = this.#options.clock.now() + BOOT_BACKOFF_MS;
  }

  #noteEmpty(): void {
    if (this.#guests.size > 0) return;
    for (const resolve of this.#onEmpty.splice(0)) resolve();
  }
}
