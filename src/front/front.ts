import type { Duplex } from 'node:stream';

import type { ImageManifest } from '../guest/driver.js';
import type { NameInspector } from '../guest/case-hack.js';
import type { HostStore } from '../host-store/host-store.js';
import type { Clock } from '../lib/clock.js';
import { Emitter } from '../lib/emitter.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { RateLimit } from '../lib/rate-limit.js';
import { SharedTurns } from '../lib/shared-turns.js';
import type { Leaser } from '../pool/lease.js';
import type { PathSigner } from '../protocol/signature.js';
import { Channel } from '../daemon/channel.js';
import { auditedClient, type AuditTrail } from './audit.js';
import { HeldRequests } from './held-requests.js';
import type { ClientIdentity, ClientPolicy } from './identity.js';
import type { BuildSnapshot, FrontEvent } from './events.js';
import type { BuildJournal } from './journal.js';
import { Session, type SessionFailure } from './session.js';

/** Time that `farewell` waits for clients to be told, in milliseconds. */
const FAREWELL_MS = 1_000;
/** Time for the client of a cancelled build to read why, in milliseconds. */
const CANCEL_GRACE_MS = 5_000;
/** A client that has begun a message must go on sending it within this time, in milliseconds. */
const STALL_TIMEOUT_MS = 60_000;

/** Number of logged sessions that end in the same way: this many at once, and one more in each interval. */
const FAILURES_LOGGED = { burst: 20, intervalMs: 6_000 };

export interface FrontOptions {
  readonly manifest: ImageManifest;
  /** Nix systems that are built here now: it may turn out in a guest that one is not. */
  readonly systems: () => readonly string[];
  /** Systems whose programs a translator runs. */
  readonly translated: () => ReadonlySet<string>;
  /** Rights that the current configuration grants to untrusted clients. */
  readonly policy: () => ClientPolicy;
  readonly host: Pick<HostStore, 'connect'>;
  readonly leaser: Leaser;
  readonly caseHack: NameInspector;
  readonly journal: BuildJournal;
  readonly audit: AuditTrail | undefined;
  readonly signer: PathSigner | undefined;
  /** Why no further session can be served at the moment; undefined while one can. */
  readonly overload: () => DroverError | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** The server side of the worker protocol, behind every door: one session per connection. */
export class Front {
  readonly events: Emitter<FrontEvent>;
  #options: FrontOptions;
  readonly #sessions = new Map<Session, Channel>();
  readonly #held = new HeldRequests();
  readonly #failureLimit: RateLimit;
  readonly #turns = new SharedTurns();
  #closing = false;
  #onSessionClosed = (): void => undefined;
  #count = 0;

  constructor(options: FrontOptions) {
    this.#options = options;
    this.#failureLimit = new RateLimit(options.clock, FAILURES_LOGGED);
    this.events = new Emitter((error) => {
      options.log.error({ err: error }, 'an observer of the front failed');
    });
  }

  /** Sets the manifest for sessions that open from now on. */
  configure(manifest: ImageManifest): void {
    this.#options = { ...this.#options, manifest };
  }

  /** Sessions that are open. */
  get sessions(): number {
    return this.#sessions.size;
  }

  /** Builds that go on or wait, in the order in which their sessions were opened. */
  get builds(): readonly BuildSnapshot[] {
    return [...this.#sessions.keys()].flatMap((session) => session.build ?? []);
  }

  /** Bytes of the sessions that are open. */
  get openBytes(): { readonly receivedBytes: number; readonly sentBytes: number } {
    const total = { receivedBytes: 0, sentBytes: 0 };
    for (const { receivedBytes, sentBytes } of this.#sessions.values()) {
      total.receivedBytes += receivedBytes;
      total.sentBytes += sentBytes;
    }
    return total;
  }

  /**
   * Serves one connection until it ends. Never rejects: a session's failure is its own.
   * @param end ends the stream, where that takes more than its `end`
   */
  async serve(stream: Duplex, identity: ClientIdentity, end?: () => void): Promise<void> {
    const { door, name } = identity;
    const id = ++this.#count;
    const log = this.#options.log.child({ session: id, door, client: name });
    const hold = this.#held.session(identity);
    const channel = new Channel(stream, {
      peer: 'The client',
      hold,
      stall: { clock: this.#options.clock, timeoutMs: STALL_TIMEOUT_MS },
      end,
    });
    const { host: hostStore, overload, ...options } = this.#options;
    const refusal = overload();
    const own = { hostStore, id, identity, refusal, log, events: this.events, turns: this.#turns };
    const session = new Session(channel, Object.assign(options, own));
    this.#sessions.set(session, channel);
    const openedAt = new Date(this.#options.clock.now()).toISOString();
    this.events.emit({ type: 'session-opened', door });
    const failure = await session.run();
    hold?.(0);
    this.#sessions.delete(session);
    this.#onSessionClosed();
    const { receivedBytes, sentBytes } = channel;
    const error = failure === undefined ? undefined : (errorCode(failure.error) ?? 'UNKNOWN');
    this.events.emit({ type: 'session-closed', door, error, receivedBytes, sentBytes });
    this.#options.audit?.record({
      type: 'session',
      ...auditedClient(id, identity),
      ...{ openedAt, error: error ?? null, receivedBytes, sentBytes },
    });
    if (failure === undefined) log.debug({ receivedBytes, sentBytes }, 'session closed');
    else this.#logFailure(failure, log);
  }

  #logFailure({ error, clientLeft }: SessionFailure, log: Log): void {
    if (this.#closing) {
      log.info('session cut: Drover is shutting down');
      return;
    }
    const code = clientLeft ? 'client left' : (errorCode(error) ?? 'UNKNOWN');
    const suppressed = this.#failureLimit.take(code);
    if (suppressed === undefined) return;
    const more = suppressed === 0 ? {} : { suppressed };
    if (clientLeft) log.info({ reason: errorMessage(error), ...more }, 'client left');
    else log.warn({ err: error, ...more }, 'session failed');
  }

  /**
   * Ends a build, whose client is told by whom and why.
   * @param build as people see it: `b1842`
   * @returns whether there was one
   */
  cancel(build: string, { by, reason }: { readonly by: string; readonly reason: string | null }): boolean {
    const found = [...this.#sessions].find(([session]) => session.build?.id === build);
    if (found === undefined) return false;
    const [session, channel] = found;
    const why = reason === null ? '' : `: ${reason}`;
    channel.interrupt(new DroverError('BUILD_CANCELLED', `Build ${build} was cancelled by ${by}${why}`));
    // A client that reads nothing keeps a session waiting.
    this.#options.clock.after(CANCEL_GRACE_MS, () => {
      if (this.#sessions.has(session)) channel.destroy();
    });
    return true;
  }

  /** Settles when the clients of builds whose guests have been ended have been told so, or do not listen. */
  async farewell(): Promise<void> {
    const concerned = [...this.#sessions.keys()].filter((session) => session.hasNews);
    if (concerned.length === 0) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#options.clock.after(FAREWELL_MS, resolve);
      this.#onSessionClosed = () => {
        if (concerned.some((session) => this.#sessions.has(session))) return;
        cancel();
        resolve();
      };
    });
  }

  /** Closes every session, whatever it is doing. */
  closeAll(): void {
    this.#closing = true;
    for (const channel of this.#sessions.values()) channel.destroy();
  }
}
