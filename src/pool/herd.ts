import type { GuestDriver, RunningGuest } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { BootFailures } from './boot-failures.js';
import { BootTimer } from './boot-timer.js';
import type { BootPhases, PoolEvent } from './events.js';
import { GuestRecord } from './guest-record.js';
import { bootGuest, killGuest, stopGuest } from './lifecycle.js';
import { followNotices } from './notices.js';
import { findHang, type Probe } from './probe.js';
import { isAlive, transition, type GuestEvent } from './state.js';
import type { RetireReason } from './view.js';

export interface HerdOptions {
  readonly driver: GuestDriver;
  readonly bootTimeoutMs: number;
  readonly probe: Probe;
  readonly clock: Clock;
  readonly log: Log;
  readonly emit: (event: PoolEvent) => void;
  /** A guest's record has changed. Called on every change, before `onChange`. */
  readonly note: (guest: GuestRecord) => void;
  /** Something has happened that may call for a step. */
  readonly onChange: () => void;
  /** Boots have failed for too long. */
  readonly onGiveUp: (error: DroverError) => void;
}

/** A guest that answers a probe later than this is no longer counted on, in milliseconds: another one is asked. */
const LATE_MS = 1_000;

/**
 * The guests: boots them, ends them and keeps their states. Part of the pool, which alone calls it.
 *
 * INVARIANT: A guest is in here from before the driver is asked to boot it until nothing of it is left on the host.
 */
export class Herd {
  readonly failures = new BootFailures();
  #options: HerdOptions;
  readonly #guests = new Map<string, GuestRecord>();
  #count = 0;
  #onEmpty: (() => void)[] = [];

  constructor(options: HerdOptions) {
    this.#options = options;
  }

  get guests(): Iterable<GuestRecord> {
    return this.#guests.values();
  }

  /** New guests have this driver from now on. Those of another generation get no more leases. */
  configure(driver: GuestDriver, bootTimeoutMs: number): void {
    const { generation } = driver.manifest;
    this.failures.reset(generation !== this.#options.driver.manifest.generation);
    this.#options = { ...this.#options, driver, bootTimeoutMs };
    this.#retireWhere((guest) => guest.driver.manifest.generation !== generation);
  }

  /** Retires guests that may have served several domains. */
  retireUsed(): void {
    this.#retireWhere(({ builds }) => builds > 0);
  }

  /** Gives guests no more leases. */
  retireAll(reason: RetireReason): void {
    this.#retireWhere(() => true, reason);
  }

  #retireWhere(which: (guest: GuestRecord) => boolean, reason: RetireReason = 'stale'): void {
    for (const guest of this.#guests.values()) {
      if (!which(guest)) continue;
      guest.retire ??= reason;
      this.#options.note(guest);
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

  /** Returns an id that no guest has had. */
  nextId(): string {
    return `g${++this.#count}`;
  }

  /** @returns the guest's id */
  boot(): string {
    const { driver, bootTimeoutMs, clock, emit, log, note } = this.#options;
    const id = this.nextId();
    const guest = new GuestRecord(id, driver, clock.now(), clock.wallNow(), this.failures.isRetry);
    this.#guests.set(id, guest);
    note(guest);
    emit({ type: 'guest-state', guest: id, from: undefined, to: 'booting', reason: undefined });
    log.info({ guest: id }, 'booting guest');
    const timer = new BootTimer(clock);
    bootGuest(driver, {
      ...{ id, signal: guest.bootAbort.signal, timeoutMs: bootTimeoutMs, clock },
      onPhase: (phase) => {
        timer.begin(phase);
      },
    }).then(
      (running) => {
        this.#onBooted(guest, running, timer.end());
      },
      (error: unknown) => {
        // `bootGuest` rejects with nothing else.
        this.#onBootFailed(guest, error as DroverError, timer.end());
      },
    );
    return id;
  }

  drain(guest: GuestRecord, reason: RetireReason): void {
    guest.retire = reason;
    guest.drainingSince = this.#options.clock.now();
    this.move(guest, 'drain', reason);
    this.#options.emit({ type: 'guest-retired', guest: guest.id, reason });
  }

  /** Stops a guest that drains and has no lease. */
  destroy(guest: GuestRecord): void {
    guest.stopping = true;
    this.#options.note(guest);
    guest.bootAbort.abort(new DroverError('BOOT_CANCELLED', 'the guest is not needed any more'));
    if (guest.running !== undefined) void stopGuest(guest.running, this.logOf(guest));
  }

  /**
   * Ends a guest that drains, in use or not. One that cannot be killed is logged, and taken out of the books.
   * @param reason reported to the holders of its leases
   */
  kill(guest: GuestRecord, reason: DroverError): void {
    guest.stopping = true;
    this.#options.note(guest);
    guest.markLost(reason);
    guest.bootAbort.abort(new DroverError('BOOT_CANCELLED', reason.message));
    if (guest.running === undefined) return;
    void killGuest(guest.running, this.logOf(guest)).then((gone) => {
      if (!gone) this.#onExited(guest, 'it could not be killed');
    });
  }

  /** Asks the guest for a sign of life. One that gives none is killed, and its leases are lost. */
  async probe(guest: GuestRecord): Promise<void> {
    const { probe, clock, note, onChange } = this.#options;
    if (guest.running === undefined || guest.leased === undefined) return;
    guest.probing = true;
    note(guest);
    const cancelLate = clock.after(LATE_MS, () => {
      guest.late = true;
      note(guest);
      onChange();
    });
    const hang = await findHang(probe, guest.running, guest.driver, guest.leased.handshakes, clock);
    cancelLate();
    guest.probing = guest.late = false;
    if (!this.#guests.has(guest.id)) return;
    if (hang === undefined) guest.seenAt = clock.now();
    else this.#onHang(guest, hang);
    note(guest);
    onChange();
  }

  /** The guest has answered something. */
  noteSeen(guest: GuestRecord): void {
    if (!this.#guests.has(guest.id)) return;
    guest.seenAt = this.#options.clock.now();
    this.#options.note(guest);
  }

  move(guest: GuestRecord, event: GuestEvent, reason?: string): void {
    const from = guest.state;
    const to = transition(from, event);
    guest.state = to;
    this.#options.note(guest);
    if (to !== from) this.#options.emit({ type: 'guest-state', guest: guest.id, from, to, reason });
  }

  logOf(guest: GuestRecord): Log {
    return this.#options.log.child({ guest: guest.id });
  }

  #onBooted(guest: GuestRecord, running: RunningGuest, phases: BootPhases): void {
    const { clock, emit, note, onChange } = this.#options;
    const log = this.logOf(guest);
    guest.attach(running, clock.now(), clock.wallNow(), log);
    const durationMs = guest.readyAt - guest.bornAt;
    this.failures.onBooted();
    running.exited.then(
      (how) => {
        this.#onExited(guest, how);
      },
      (error: unknown) => {
        this.#onExited(guest, errorMessage(error));
      },
    );
    followNotices(guest, running, {
      clock,
      log,
      onChange: () => {
        if (isAlive(guest.state)) note(guest);
        onChange();
      },
    });
    emit({ type: 'boot-finished', guest: guest.id, result: 'ok', durationMs, phases });
    log.info({ durationMs: Math.round(durationMs) }, 'guest booted');
    if (guest.state === 'booting') this.move(guest, 'booted');
    // Its boot was cancelled, but too late.
    else void stopGuest(running, log);
    onChange();
  }

  #onBootFailed(guest: GuestRecord, error: DroverError, phases: BootPhases): void {
    const { bootTimeoutMs, clock, emit, onChange, onGiveUp } = this.#options;
    this.#guests.delete(guest.id);
    if (guest.state === 'draining') {
      this.move(guest, 'ended');
    } else {
      const now = clock.now();
      this.move(guest, 'failed', errorMessage(error));
      emit({
        type: 'boot-finished',
        guest: guest.id,
        result: 'failed',
        code: causeOf(error),
        durationMs: now - guest.bornAt,
        phases,
      });
      this.logOf(guest).error({ err: error }, 'guest did not boot');
      if (this.failures.onFailed(error, guest.isRetry, now, bootTimeoutMs)) onGiveUp(error);
    }
    this.#noteEmpty();
    onChange();
    if (![...this.guests].some(({ state }) => state === 'booting')) this.failures.onUnwanted();
  }

  #onHang(guest: GuestRecord, hang: string): void {
    guest.hang = hang;
    this.logOf(guest).error({ hang, leases: guest.leases }, 'guest hangs');
    if (guest.state !== 'draining') this.drain(guest, 'lost');
    this.kill(guest, lost(guest, hang));
  }

  #onExited(guest: GuestRecord, how: string): void {
    if (!this.#guests.delete(guest.id)) return;
    const log = this.logOf(guest);
    if (guest.hang !== undefined) {
      this.move(guest, 'failed', guest.hang);
    } else if (guest.state === 'draining' && guest.stopping) {
      this.move(guest, 'ended');
      log.info({ reason: guest.retire }, 'guest stopped');
    } else {
      this.move(guest, 'failed', how);
      log.error({ how, leases: guest.leases }, 'guest lost');
      // A guest that dies before it has served is no better than one that does not boot.
      if (guest.builds === 0) this.failures.backOff(this.#options.clock.now());
    }
    guest.markLost(lost(guest, how));
    this.#noteEmpty();
    this.#options.onChange();
  }

  #noteEmpty(): void {
    if (this.#guests.size > 0) return;
    for (const resolve of this.#onEmpty.splice(0)) resolve();
  }
}

/** The code of what made a boot fail, as far as there is one behind `BOOT_FAILED`. */
function causeOf(error: DroverError): string {
  let code: string = error.code;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
    code = errorCode(cause) ?? code;
  return code;
}

function lost({ id }: GuestRecord, how: string): DroverError {
  return new DroverError('GUEST_LOST', `The guest ${id} was lost: ${how}`, { context: { guest: id } });
}
