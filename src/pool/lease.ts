import type { Duplex } from 'node:stream';

import type { GuestAgent } from '../guest/agent.js';
import type { IdleConnections } from '../daemon/idle-connections.js';
import type { GuestStore } from '../guest/provision.js';
import type { RetireReason } from './plan.js';

/** The part of a guest that the holder of a lease sees. */
export interface LeasedGuest {
  readonly id: string;
  readonly agent: GuestAgent;
  readonly store: GuestStore;
  readonly connections: IdleConnections;
  /** Aborts when the guest is gone; the reason is a DroverError `GUEST_LOST` that says how it ended. */
  readonly lost: AbortSignal;
  openDaemon(): Promise<Duplex>;
}

/** One job slot of one guest. Disposing returns it; returning it twice does nothing. */
export interface Lease extends AsyncDisposable {
  readonly guest: LeasedGuest;
  /** Whether others have a lease of this guest, or have had one. */
  readonly shared: boolean;
  /** The guest gets no more leases, and goes when its last one is returned. */
  retire(reason: RetireReason): void;
}

export interface LeaseRequest {
  /** Guests that are of no use: they hold something that contradicts the host. */
  readonly avoid?: ReadonlySet<string>;
  /**
   * The session is gone: stop waiting. `lease` then rejects with the signal's reason. A lease that is granted in the
   * same moment is returned: whoever awaits `lease` directly never holds one unawares.
   */
  readonly signal: AbortSignal;
}

/** What a session needs of the pool. */
export interface Leaser {
  /**
   * Waits for a job slot, booting a guest if it must. Served in the order of asking.
   * @throws DroverError `BOOT_FAILED` when guests do not boot, `SHUTTING_DOWN`
   */
  lease(request: LeaseRequest): Promise<Lease>;
}
