import type { Duplex } from 'node:stream';

import type { GuestAgent } from '../guest/agent.js';
import type { Handshakes } from '../daemon/hang-watch.js';
import type { IdleConnections } from '../daemon/idle-connections.js';
import type { GuestStore } from '../guest/provision.js';
import type { ProgramRequest, RunningProgram } from '../guest/program.js';
import type { RetireReason } from './view.js';

/** The part of a guest that the holder of a lease sees. */
export interface LeasedGuest {
  readonly id: string;
  /** Generation of its image. */
  readonly generation: string;
  readonly agent: GuestAgent;
  readonly store: GuestStore;
  readonly connections: IdleConnections;
  readonly handshakes: Handshakes;
  /** Aborts when the guest is gone; the reason is a DroverError `GUEST_LOST` that says how it ended. */
  readonly lost: AbortSignal;
  openDaemon(): Promise<Duplex>;
}

/** A person's hold of a guest, which stays until it is disposed of: it is not idle, and no client gets its place. */
export interface GuestHold extends Disposable {
  readonly lost: LeasedGuest['lost'];
  start(request: ProgramRequest): Promise<RunningProgram>;
}

/** A failed build whose directory is kept in its guest, for a person to look into. */
export interface KeptBuild {
  /** `b1842` */
  readonly build: string;
  /** Its directory in the guest. */
  readonly directory: string;
  /** Program that ran it. */
  readonly builder: string;
  /** For how long it is kept, in milliseconds. */
  readonly keepMs: number;
}

/** One job slot of one guest. Disposing returns it; returning it twice does nothing. */
export interface Lease extends AsyncDisposable {
  readonly guest: LeasedGuest;
  /** Whether other sessions have, or have had, a lease of this guest. */
  readonly shared: boolean;
  /** Whether other sessions wait at this moment, and there is no place for guests of theirs. */
  readonly wanted: boolean;
  /** The guest gets no more leases, and stops when its last one is returned. */
  retire(reason: RetireReason): void;
  /** The guest stays for a while for this failed build. @returns false: it does not, since it must end */
  keep(kept: KeptBuild): boolean;
}

export interface LeaseRequest {
  /** Trust domain of the session. See `ClientIdentity`. */
  readonly domain: string;
  /** Leases that the domain may hold and wait for at the same time; undefined: any number. */
  readonly maxBuilds?: number | undefined;
  /** Guests that the session cannot use, because they hold something that contradicts the host. */
  readonly avoid?: ReadonlySet<string>;
  /** The session needs a fresh guest for itself, as for a build that found another guest full. */
  readonly alone?: boolean;
  /**
   * Called once, if the session must wait. `place` says how many sessions are served before it, and why it waits; it
   * may be called at any time.
   */
  readonly onWait?: (place: () => WaitPlace) => void;
  /**
   * Aborts when the session is gone. While the request waits, `lease` then rejects with the signal's reason. A lease
   * that has been granted belongs to the session, even if the signal aborts before the session's next line runs: look
   * at the signal again and return the lease.
   */
  readonly signal: AbortSignal;
}

/** A session's place in the queue. */
export interface WaitPlace {
  readonly before: number;
  /** For people: `2 of 2 guests are full`. */
  readonly reason: string;
}

/** The pool as a session sees it. */
export interface Leaser {
  /**
   * Waits for a job slot, booting a guest if necessary. Domains take turns; sessions of one domain are served
   * in the order of asking.
   * @throws DroverError `BOOT_FAILED` when guests do not boot, `TOO_MANY_BUILDS`, `SHUTTING_DOWN`
   */
  lease(request: LeaseRequest): Promise<Lease>;
}
