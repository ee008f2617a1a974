import type { CancelTimer } from '../lib/clock.js';
import { DroverError, errorCode } from '../lib/errors.js';
import type { WaitPlace } from '../pool/lease.js';
import { isExhaustion } from '../lib/exhaustion.js';
import type { SetOptions } from '../protocol/operations.js';
import type { StorePath } from '../protocol/store-path.js';
import type { SessionContext } from './context.js';
import type { HostView } from './host-view.js';
import { GuestUnfitError, lossBehind, type Loss } from './loss.js';
import { guestLost, Results } from './results.js';
import { Seat } from './seat.js';

/** Maximum number of times that work is restarted because its guest was lost or full. */
const MAX_REPLAYS = 2;
/** Guests in a row that may be unreachable or in conflict. Each of them is retired, so there are few. */
const MAX_UNFIT_GUESTS = 8;
/** Longest pause in the middle of an upload, in milliseconds: of a slow source, Ctrl-Z, or a laptop that sleeps. */
const MAX_PAUSE_MS = 3_600_000;

/**
 * A client that says nothing for this long gives up its guest if others wait for one, in milliseconds. Most clients
 * fetch a result at once: one that does not has it built again if it comes back. Where that would not restore all that
 * it has in the guest, as after an upload, its session ends.
 */
const IDLE_MS = { without: 5_000, result: 30_000, upload: 60_000 } as const;
/** Time between two looks at an idle client, in milliseconds. */
const LOOK_MS = 1_000;

/** Requirements of work on a guest. */
export interface Need {
  /** Outputs that the guest must build. A guest that was once given one of them by the host would not. */
  readonly outputs?: readonly StorePath[];
  /**
   * Says that another guest can do the same work if this one is lost. Gets the words for the client.
   * Without it, work is repeated only where the session's results were restored.
   */
  readonly replay?: (notice: string, loss: Loss) => Promise<void>;
  /** Called if the work must wait for a guest. */
  readonly onWait?: ((place: () => WaitPlace) => void) | undefined;
}

/** Limits of one `run`, and the guests that it has passed over. */
interface Attempts {
  replays: number;
  /** The work needs a guest for itself: with other work beside it, another guest was full. */
  alone: boolean;
  readonly avoid: Set<string>;
}

/**
 * The guest of one session, or none. All work in a guest goes through `run`, which is the only place that knows how a
 * guest is lost and what follows: another guest, with the session's results built again, or an error for the client.
 */
export class Placement implements AsyncDisposable {
  readonly results = new Results();
  readonly #context: SessionContext;
  readonly #host: HostView;
  #seat: Seat | undefined;
  #settings: readonly Uint8Array[] | undefined;
  #options: SetOptions | undefined;
  #serving = false;
  #cancelLook: CancelTimer = () => undefined;
  #idleSince = 0;

  constructor(context: SessionContext, host: HostView) {
    this.#context = context;
    this.#host = host;
  }

  /** Whether the session has a guest. */
  get seated(): boolean {
    return this.#seat !== undefined;
  }

  /**
   * Whether the client may go on pausing in the middle of an upload: as long as that costs no other session anything.
   */
  readonly mayPause = (pausedMs: number): boolean =>
    pausedMs < MAX_PAUSE_MS && this.#seat?.lease.wanted !== true;

  /** Between `begin` and `end` a request is being served. */
  begin(): void {
    this.#serving = true;
    this.#cancelLook();
    // A request that arrived before its client went is not worth a build.
    if (this.#context.client.gone.aborted) this.#seat?.giveUp();
  }

  end(): void {
    this.#serving = false;
    if (this.#seat === undefined) return;
    this.#idleSince = this.#context.clock.now();
    this.#lookLater();
  }

  #lookLater(): void {
    this.#cancelLook = this.#context.clock.after(LOOK_MS, () => {
      if (!this.#isDispensable()) this.#lookLater();
      else void this.#giveBack();
    });
  }

  /** Whether others need the guest more. */
  #isDispensable(): boolean {
    const seat = this.#seat;
    if (seat === undefined || !seat.lease.wanted) return false;
    return this.#context.clock.now() - this.#idleSince >= IDLE_MS[this.#holds(seat)];
  }

  /** The kind of loss that it would be for the client. */
  #holds({ bond }: Seat): keyof typeof IDLE_MS {
    return this.results.restorable ? (bond ?? 'without') : 'upload';
  }

  async #giveBack(): Promise<void> {
    const seat = this.#seat;
    if (seat === undefined) return;
    const { guest } = seat;
    const holds = this.#holds(seat);
    const text = `the guest ${guest.id} was given to other clients while this one was idle`;
    if (holds === 'upload') {
      // The session returns the lease as it ends.
      this.#context.client.interrupt(guestLost(text));
      return;
    }
    if (holds === 'result') this.results.lose(text);
    this.#context.log.info({ guest: guest.id }, 'lease of an idle session returned: others wait');
    this.leaveConnection();
    await this.#leave();
  }

  /** The client's SetOptions request, for the guest and for every later one of this session. */
  async setSettings(request: readonly Uint8Array[], options: SetOptions): Promise<void> {
    await this.ask((seat) => seat.daemon.setOptions(request));
    this.#settings = request;
    this.#options = options;
  }

  /** The options last sent by `setSettings`. */
  get options(): SetOptions | undefined {
    return this.#options;
  }

  /**
   * Does work in the session's guest, taking a guest first if there is none.
   * @throws DroverError `GUEST_LOST`, `GUEST_FULL`, `GUEST_CONFLICT`; whatever `Leaser.lease` and the work throw
   */
  async run<T>(need: Need, work: (seat: Seat) => Promise<T>): Promise<T> {
    return await this.#run(need, work);
  }

  /** Asks the session's guest. @returns undefined if there is none, or it is lost with nothing of the client's in it */
  async ask<T>(question: (seat: Seat) => Promise<T>): Promise<T | undefined> {
    return await this.#run({}, question, () => undefined);
  }

  /** @param absent used where there is no guest, in place of taking one */
  async #run<T>(need: Need, work: (seat: Seat) => Promise<T>, absent?: () => T): Promise<T> {
    const attempts = { replays: 0, alone: false, avoid: new Set<string>() };
    for (;;) {
      if (absent !== undefined && this.#seat === undefined && !this.results.lost) return absent();
      try {
        return await work(await this.#sit(need, attempts));
      } catch (error) {
        await this.#recover(error, { again: absent !== undefined, ...need }, attempts);
      }
    }
  }

  /** Leaves the connection to the guest to another session. */
  leaveConnection(): void {
    this.#seat?.leaveConnection();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancelLook();
    await this.#seat?.[Symbol.asyncDispose]();
    this.#seat = undefined;
  }

  /** Returns a guest that can do the work, with the session's results in it. */
  async #sit({ outputs = [], onWait }: Need, attempts: Attempts): Promise<Seat> {
    const seat = (this.#seat ??= await this.#takeSeat(attempts, onWait));
    if (seat.guest.store.sharesAnyOf([...outputs, ...this.results.lostOutputs])) {
      throw alreadyThere(seat.guest.id);
    }
    await this.results.restore(seat);
    return seat;
  }

  async #takeSeat({ alone, avoid }: Attempts, onWait: Need['onWait']): Promise<Seat> {
    const { client, identity, leaser, move } = this.#context;
    const lease = await leaser.lease({
      domain: identity.domain,
      // A build whose results are lost has been admitted before.
      maxBuilds: this.results.lost ? undefined : identity.maxBuilds,
      avoid: new Set(avoid),
      alone,
      signal: client.gone,
      ...(onWait === undefined ? {} : { onWait }),
    });
    const { id } = lease.guest;
    try {
      client.gone.throwIfAborted();
      const seat = await Seat.open(lease, {
        context: this.#context,
        host: this.#host,
        settings: this.#settings,
        isServing: () => this.#serving,
      });
      move('leased');
      return seat;
    } catch (error) {
      const reached = client.gone.aborted || wasReached(error);
      if (!reached) lease.retire('lost');
      await lease[Symbol.asyncDispose]();
      throw reached ? error : new GuestUnfitError(id, error);
    }
  }

  /** Makes room for another attempt, or throws the error for the client. */
  async #recover(error: unknown, need: Need & { again: boolean }, attempts: Attempts): Promise<void> {
    const { client, clock, events, log } = this.#context;
    if (client.gone.aborted) throw error;
    // The bytes of a corrupt answer may be meant for the next client.
    if (errorCode(error) === 'NAR_INVALID') this.#seat?.lease.retire('untrusted');
    const loss = await lossBehind(error, this.#seat, client, clock);
    if (loss === undefined) throw error;
    if (loss.kind === 'conflict' || loss.kind === 'unfit') {
      await this.#passOver(loss, error, attempts);
      return;
    }
    const { kind, guest, text } = loss;
    const bond = this.#seat?.bond;
    const rebuilds = bond === 'result' || this.results.lost;
    const repeats = bond === undefined && (need.replay !== undefined || need.again);
    if (!(rebuilds || repeats) || ++attempts.replays > MAX_REPLAYS) {
      throw kind === 'full' ? error : guestLost(text);
    }
    if (bond === 'result') this.results.lose(text);
    if (kind === 'full') attempts.alone = true;
    await this.#leave(kind === 'full' ? 'scratch' : 'lost');
    log.warn({ guest, kind, loss: text }, 'guest lost');
    if (!rebuilds && need.replay === undefined) return;
    events.emit({ type: 'build-replayed', guest, cause: kind });
    await need.replay?.(
      `drover: ${text}; building again in another guest (${attempts.replays} of ${MAX_REPLAYS})`,
      loss,
    );
  }

  async #passOver(loss: Loss, error: unknown, { avoid }: Attempts): Promise<void> {
    const { kind, guest, text } = loss;
    if (kind === 'conflict') this.#seat?.lease.retire('conflict');
    if (this.#seat?.bond !== undefined) throw error;
    this.#context.log.warn({ guest, kind, reason: text }, 'guest passed over; taking another one');
    avoid.add(guest);
    await this.#leave();
    if (avoid.size <= MAX_UNFIT_GUESTS) return;
    throw new DroverError('GUEST_CONFLICT', `${avoid.size} guests in a row could not do this work`, {
      cause: error,
      hint: 'Try again. If it happens again, restart Drover.',
    });
  }

  async #leave(retire?: 'lost' | 'scratch'): Promise<void> {
    const seat = this.#seat;
    if (seat === undefined) return;
    this.#seat = undefined;
    this.#context.move('returned');
    if (retire !== undefined) seat.lease.retire(retire);
    await seat[Symbol.asyncDispose]();
  }
}

/** Whether a guest refused a connection for a reason that another guest would have, too. */
function wasReached(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'GUEST_VERSION' || code === 'PROTOCOL_REMOTE_ERROR' || isExhaustion(error);
}

function alreadyThere(guest: string): DroverError {
  return new DroverError(
    'GUEST_CONFLICT',
    `The guest ${guest} holds an output of this build from an earlier use, which the host no longer has`,
    { hint: 'Start the build again: it gets another guest.', context: { guest } },
  );
}
