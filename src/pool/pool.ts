import type { GuestDriver, Machine, MachineOptions } from '../guest/driver.js';
import type { CancelTimer, Clock } from '../lib/clock.js';
import { Emitter } from '../lib/emitter.js';
import { DroverError } from '../lib/errors.js';
import { count } from '../lib/human.js';
import type { Log } from '../lib/log.js';
import { hasProspect, isStep } from './demand.js';
import type { PoolEvent, PoolSnapshot, QueueSnapshot } from './events.js';
import { isUnready } from './guest-entry.js';
import type { GuestRecord } from './guest-record.js';
import { Herd } from './herd.js';
import type { GuestHold, Lease, Leaser, LeaseRequest, WaitPlace, KeptBuild } from './lease.js';
import { KeptBuilds } from './kept-builds.js';
import { nextStep } from './plan.js';
import { PoolIndex } from './pool-index.js';
import type { PrivateGuest } from './private-guest.js';
import { PrivateGuests, type PrivateGuestRequest } from './private-guest-table.js';
import { probeDaemon, type Probe } from './probe.js';
import { buildOneLine, tryOut } from './trial.js';
import { isScratchFull } from './scratch.js';
import { isAlive } from './state.js';
import type { Conditions, PoolPolicy, RetireReason, Step, WaiterView } from './view.js';
import { WaitQueue } from './wait-queue.js';
import { countBefore, whyWaiting } from './waiting.js';

/** People who are in one guest at the same time. */
const MAX_SHELLS = 16;
/** A guest that is retired for one of these ends with its last lease, and keeps no failed build. */
const KEEPS_NOTHING: ReadonlySet<RetireReason | undefined> = new Set(['operator', 'stale', 'shutdown']);

export interface PoolOptions extends PoolPolicy {
  readonly bootTimeoutMs: number;
}

/**
 * The herd, the sessions that hold its job slots, and those that wait for one.
 *
 * INVARIANTS: All state is written here, in the herd and in the wait queue, synchronously, and nowhere else. Every
 * write is noted in the index at once. Every change ends in `#settle`, which plans and applies until there is nothing
 * to do, and only then tells observers. What takes time (boots, stops, probes) runs outside and comes back as a call.
 */
export class Pool implements Leaser {
  readonly events: Emitter<PoolEvent>;
  #options: PoolOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #herd: Herd;
  readonly #waiters: WaitQueue;
  #index: PoolIndex;
  /** Leases that each domain holds. */
  readonly #held = new Map<string, number>();
  readonly #kept: KeptBuilds;
  readonly #private: PrivateGuests;
  #shuttingDown = false;
  #paused = false;
  #settling = false;
  #untold: PoolEvent[] = [];
  #telling = false;
  #cancelWake: CancelTimer | undefined;

  constructor(driver: GuestDriver, options: PoolOptions, clock: Clock, log: Log, probe: Probe = probeDaemon) {
    this.#options = options;
    this.#clock = clock;
    this.#log = log;
    this.#index = new PoolIndex(options);
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
      probe,
      clock,
      log,
      emit,
      note: (guest) => {
        if (isAlive(guest.state)) this.#index.putGuest(guest);
        else this.#forget(guest);
      },
      onChange,
      onGiveUp: (error) => {
        this.#waiters.refuse(error, (waiter) => !this.#hasProspect(waiter));
      },
    });
    this.#kept = new KeptBuilds(clock, (guest, kept) => {
      this.#onDropped(guest, kept);
    });
    this.#private = new PrivateGuests(clock, log, (event) => {
      this.events.emit(event);
    });
    this.#waiters = new WaitQueue({
      now: () => clock.now(),
      emit,
      find: (id) => this.#index.waiter(id)?.waiter,
      all: () => this.#index.waiters,
      onAdded: (waiter) => {
        this.#index.addWaiter(waiter);
      },
      onRemoved: (id) => {
        this.#index.removeWaiter(id);
      },
      onLeft: onChange,
    });
  }

  /** Boots the warm guests. */
  start(): void {
    this.#settle();
  }

  /** Applies these limits from now on. New guests have this driver; those of another generation drain. */
  configure(options: PoolOptions, driver: GuestDriver): void {
    const wasShared = this.#options.isolation === 'shared';
    this.#options = options;
    const { waiters } = this.#index;
    this.#index = new PoolIndex(options);
    for (const guest of this.#herd.guests) this.#index.putGuest(guest);
    for (const waiter of waiters) this.#index.addWaiter(waiter);
    this.#herd.configure(driver, options.bootTimeoutMs);
    // A guest that one client had to itself holds what others must not build on, and the other way round.
    if (wasShared !== (options.isolation === 'shared')) this.#herd.retireUsed();
    this.#settle();
  }

  /**
   * Boots a guest of another kind beside the others, without sessions, makes it build one line, and ends it.
   * @throws DroverError `BOOT_FAILED`, `TRIAL_FAILED`
   */
  async tryOut(driver: GuestDriver, signal: AbortSignal): Promise<void> {
    const id = this.#herd.nextId();
    const log = this.#log.child({ guest: id });
    const { bootTimeoutMs } = this.#options;
    await tryOut(driver, id, { work: buildOneLine, bootTimeoutMs, clock: this.#clock, log, signal });
  }

  /** Boots a guest for one person's program, beside the others. @throws DroverError `BOOT_FAILED`, `SHUTTING_DOWN` */
  async bootPrivate(driver: GuestDriver, request: PrivateGuestRequest): Promise<PrivateGuest> {
    if (this.#shuttingDown) throw shuttingDown();
    const { bootTimeoutMs } = this.#options;
    return await this.#private.boot({ id: this.#herd.nextId(), driver, bootTimeoutMs }, request);
  }

  /**
   * Starts a machine for one person, beside the pool's guests.
   * @param name for people
   * @throws DroverError `SHUTTING_DOWN`, `BOOT_FAILED`
   */
  async startMachine(
    driver: GuestDriver,
    name: string,
    options: Omit<MachineOptions, 'id'>,
  ): Promise<Machine> {
    if (this.#shuttingDown) throw shuttingDown();
    const id = this.#herd.nextId();
    return await this.#private.keepMachine(id, driver, name, async () => {
      if (driver.startMachine === undefined) throw new TypeError(`${driver.name} has no machines`);
      return await driver.startMachine({ ...options, id });
    });
  }

  /** Not an `async` function: what one keeps while it waits takes as much memory as the waiter itself. */
  lease(request: LeaseRequest): Promise<Lease> {
    const refusal = this.#refusalOf(request);
    if (refusal !== undefined) return Promise.reject(refusal);
    const { id, lease } = this.#waiters.add(request);
    this.#settle();
    if (this.#index.waiter(id) !== undefined) request.onWait?.(() => this.#placeOf(id));
    return lease;
  }

  #refusalOf({ signal, domain, maxBuilds = Infinity }: LeaseRequest): Error | undefined {
    if (signal.aborted) return signal.reason as Error;
    if (this.#shuttingDown) return shuttingDown();
    const builds = (this.#held.get(domain) ?? 0) + (this.#index.domain(domain)?.waiting ?? 0);
    return builds >= maxBuilds ? tooManyBuilds(maxBuilds) : undefined;
  }

  snapshot(): PoolSnapshot {
    const guests = [...this.#herd.guests].map((guest) => guest.snapshot(this.#clock.now()));
    const { maxGuests, jobsPerGuest } = this.#options;
    return {
      guests,
      programs: this.#private.snapshots,
      maxGuests,
      jobsPerGuest,
      waiting: this.#index.waiting,
      queues: [...this.#index.hungry].map((domain): QueueSnapshot => {
        const first = Math.min(
          domain.plain.first?.waiter.id ?? Infinity,
          domain.picky.first?.waiter.id ?? Infinity,
        );
        const now = this.#clock.now();
        return {
          domain: domain.name,
          waiting: domain.waiting,
          oldestSeconds: Math.round((now - this.#waiters.sinceOf(first)) / 1000),
          reason: whyWaiting(domain, this.#index, this.#conditions, now),
        };
      }),
      leases: guests.reduce((sum, { leases }) => sum + leases, 0),
      failedBoots: this.#herd.failures.snapshot,
    };
  }

  /** Whether all guests were drained by the operator, and builds wait until `resume`. */
  get paused(): boolean {
    return this.#paused;
  }

  /** Drains all guests, and boots none until `resume`: builds that run may end, others wait. */
  pause(): void {
    this.#paused = true;
    for (const guest of this.#herd.guests) this.#kept.release(guest);
    this.#herd.retireAll('operator');
    this.#settle();
  }

  resume(): void {
    this.#paused = false;
    this.#settle();
  }

  /** Gives one guest no more leases; it ends when its last one is returned. @throws DroverError `UNKNOWN_GUEST` */
  drainGuest(id: string): void {
    const guest = this.#herd.get(id);
    this.#kept.release(guest);
    this.#retire(guest, 'operator');
  }

  /**
   * Holds a guest for a person who is root in it. It goes on serving sessions; afterwards it gets no more leases, since
   * its files may have been changed by hand.
   * @throws DroverError `UNKNOWN_GUEST`, `NO_ROOM`
   */
  enterGuest(id: string): GuestHold {
    const guest = this.#herd.get(id);
    return this.#enter(guest, () => {
      this.#retire(guest, 'shell');
    });
  }

  /** Ids of failed builds that are kept. */
  get keptBuilds(): readonly string[] {
    return this.#kept.ids;
  }

  /** Holds the guest of a failed build, for a person who is a build user there. @returns undefined: it is not kept */
  enterBuild(build: string): { readonly hold: GuestHold; readonly kept: KeptBuild } | undefined {
    const found = this.#kept.find(build);
    if (found === undefined) return undefined;
    let leave = (): void => undefined;
    const hold = this.#enter(found.guest, () => {
      leave();
      if (isAlive(found.guest.state)) this.#index.putGuest(found.guest);
      this.#settle();
    });
    leave = this.#kept.enter(build);
    return { hold, kept: found.kept };
  }

  /** @param onLeft the person has left */
  #enter(guest: GuestRecord, onLeft: () => void): GuestHold {
    const { id } = guest;
    const { leased, running } = guest;
    if (leased === undefined || running === undefined)
      throw noRoom(`The guest ${id} still boots`, 'Try again when it is ready.');
    if (guest.shells >= MAX_SHELLS)
      throw noRoom(`${MAX_SHELLS} shells are open in the guest ${id}, the limit`, 'Close one of them.');
    if (guest.stopping) throw noRoom(`The guest ${id} is ending`, 'Choose another one: drover status.');
    guest.shells += 1;
    this.#index.putGuest(guest);
    let left = false;
    return {
      lost: leased.lost,
      start: (request) => running.start(request),
      [Symbol.dispose]: () => {
        if (left) return;
        left = true;
        guest.shells -= 1;
        guest.idleSince = this.#clock.now();
        onLeft();
      },
    };
  }

  /** Boots a guest that no build has asked for. @returns its id @throws DroverError `NO_ROOM` */
  bootGuest(): string {
    const { maxGuests } = this.#options;
    if (this.#paused) throw noRoom('All guests were drained', 'Run drover resume first.');
    if (this.#shuttingDown) throw shuttingDown();
    if (this.#index.alive >= maxGuests)
      throw noRoom(
        `The pool has ${count(this.#index.alive, 'guest')} of at most ${maxGuests}`,
        'Raise pool.maxGuests.',
      );
    const id = this.#herd.boot();
    this.#settle();
    return id;
  }

  /**
   * No more leases; settles when the last guest is gone. Leases that are held run to their end, unless `kill` comes.
   */
  async drain(): Promise<void> {
    this.#shuttingDown = true;
    for (const guest of this.#herd.guests) this.#kept.release(guest);
    this.#waiters.refuse(shuttingDown());
    this.#settle();
    await this.#herd.empty();
  }

  /** Ends all guests at once, in use or not. One that cannot be killed is logged, and not waited for. */
  async kill(): Promise<void> {
    const drained = this.drain();
    for (const guest of this.#herd.guests) this.#herd.kill(guest, shuttingDown());
    await drained;
  }

  /** Whether sessions wait for whom no guest boots, nor can. */
  get #lacksPlaces(): boolean {
    const { alive, booting, need } = this.#index;
    return need > booting + Math.max(0, this.#options.maxGuests - alive);
  }

  get #conditions(): Conditions {
    const { notBefore, retryAt } = this.#herd.failures;
    const retryBootAt = this.#paused ? Infinity : retryAt;
    return { bootNotBefore: notBefore, retryBootAt, shuttingDown: this.#shuttingDown };
  }

  #hasProspect({ id }: WaiterView): boolean {
    const node = this.#index.waiter(id);
    return node !== undefined && hasProspect(node, this.#index);
  }

  #placeOf(id: number): WaitPlace {
    const node = this.#index.waiter(id);
    if (node === undefined) return { before: 0, reason: 'it has been served' };
    const domain = this.#index.domainOf(node);
    const reason = whyWaiting(domain, this.#index, this.#conditions, this.#clock.now());
    return { before: countBefore(node, this.#index), reason };
  }

  /** INVARIANT: never runs inside itself, so each step is planned from the state that the last one left. */
  #settle(): void {
    if (this.#settling) return;
    this.#settling = true;
    try {
      for (;;) {
        const next = nextStep(this.#index, this.#conditions, this.#clock.now());
        if (isStep(next)) this.#apply(next);
        else {
          this.#wakeAt(next);
          break;
        }
      }
    } finally {
      this.#settling = false;
    }
    this.#tell();
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

  #wakeAt(time: number | undefined): void {
    this.#cancelWake?.();
    this.#cancelWake =
      time === undefined || time === Infinity
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
      case 'release':
        this.#kept.release(this.#herd.get(step.guest));
        return;
      case 'probe':
        void this.#herd.probe(this.#herd.get(step.guest));
        return;
      case 'drain':
        this.#drain(this.#herd.get(step.guest), step.reason);
        return;
      case 'destroy':
        this.#herd.destroy(this.#herd.get(step.guest));
        return;
    }
  }

  #drain(guest: GuestRecord, reason: RetireReason): void {
    this.#herd.drain(guest, reason);
    if (KEEPS_NOTHING.has(reason)) this.#kept.release(guest);
    // It has had its turn: its waiters are served after those that it makes room for.
    if (reason === 'turn' && guest.domain !== undefined) this.#index.endTurn(guest.domain);
  }

  #grant(waiterId: number, guest: GuestRecord): void {
    const { leased } = guest;
    if (leased === undefined)
      throw new DroverError('ILLEGAL_TRANSITION', `The guest ${guest.id} does not run yet`);
    const waiters = this.#waiters;
    const wanted = (): boolean => this.#lacksPlaces;
    const { domain, alone } = waiters.get(waiterId);
    const shared = this.#options.isolation === 'shared';
    if (shared || guest.domain === undefined) this.#index.endTurn(domain);
    if (guest.builds === 0) guest.claimedAt = this.#clock.now();
    guest.domain ??= shared ? undefined : domain;
    guest.leases += 1;
    guest.builds += 1;
    if (alone) guest.retire ??= 'builds';
    this.#held.set(domain, (this.#held.get(domain) ?? 0) + 1);
    this.#herd.move(guest, 'leased');
    let returned = false;
    waiters.grant(waiterId, {
      guest: leased,
      get shared() {
        return guest.builds > 1;
      },
      get wanted() {
        return wanted();
      },
      retire: (reason) => {
        this.#retire(guest, reason);
      },
      keep: (kept) => {
        if (!isAlive(guest.state) || this.#shuttingDown || KEEPS_NOTHING.has(guest.retire)) return false;
        this.#kept.add(guest, kept);
        this.#index.putGuest(guest);
        return true;
      },
      [Symbol.asyncDispose]: () => {
        if (!returned) {
          returned = true;
          this.#onReturned(guest, domain);
        }
        return Promise.resolve();
      },
    });
  }

  #onReturned(guest: GuestRecord, domain: string): void {
    const held = (this.#held.get(domain) ?? 0) - 1;
    if (held > 0) this.#held.set(domain, held);
    else this.#held.delete(domain);
    guest.leases -= 1;
    guest.idleSince = this.#clock.now();
    this.#untold.push({ type: 'lease-returned', guest: guest.id });
    if (isAlive(guest.state)) {
      if (guest.leases === 0) this.#herd.move(guest, 'returned');
      else this.#index.putGuest(guest);
    }
    this.#settle();
    // Now, and not while a build runs that would have to share the processor.
    if (isAlive(guest.state)) guest.leased?.agent.prepareRegister();
    const listener = {
      log: this.#herd.logOf(guest),
      onAnswer: (): void => {
        this.#herd.noteSeen(guest);
      },
      emit: (event: PoolEvent): void => {
        this.events.emit(event);
      },
    };
    void isScratchFull(guest, this.#clock, listener).then((full) => {
      if (full) this.#retire(guest, 'scratch');
    });
  }

  #forget(guest: GuestRecord): void {
    this.#index.removeGuest(guest.id);
    this.#kept.release(guest);
  }

  /** A guest that goes on has no use for the directory. */
  #onDropped(guest: GuestRecord, { directory }: KeptBuild): void {
    if (!isAlive(guest.state)) return;
    this.#index.putGuest(guest);
    if (guest.retire === undefined) void guest.leased?.agent.dropBuild(directory).catch(() => undefined);
    this.#settle();
  }

  #retire(guest: GuestRecord, reason: RetireReason): void {
    guest.retire ??= reason;
    if (isAlive(guest.state)) this.#index.putGuest(guest);
    this.#settle();
    // One session's finding may concern the others, which would notice much later.
    if (reason === 'lost' && guest.leases > 1 && isAlive(guest.state) && !isUnready(guest))
      void this.#herd.probe(guest);
  }
}

function shuttingDown(): DroverError {
  return new DroverError('SHUTTING_DOWN', 'Drover is shutting down', {
    hint: 'Try again when it runs again.',
  });
}

function noRoom(message: string, hint: string): DroverError {
  return new DroverError('NO_ROOM', message, { hint });
}

function tooManyBuilds(limit: number): DroverError {
  return new DroverError(
    'TOO_MANY_BUILDS',
    `This client has ${count(limit, 'build')} running or waiting, its limit`,
    {
      hint: "Wait until one has ended, lower max-jobs in the client's machines file, or raise maxBuilds of its key.",
      context: { limit },
    },
  );
}
