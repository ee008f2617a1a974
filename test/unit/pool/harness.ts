import { errorCode, errorMessage } from '../../../src/lib/errors.js';
import { createLog } from '../../../src/lib/log.js';
import type { PoolEvent } from '../../../src/pool/events.js';
import type { Lease, WaitPlace } from '../../../src/pool/lease.js';
import type { RetireReason } from '../../../src/pool/view.js';
import { Pool, type PoolOptions } from '../../../src/pool/pool.js';
import type { Probe } from '../../../src/pool/probe.js';
import { FakeClock, settled } from '../../support/fake-clock.js';
import { FakeDriver } from '../../support/fake-driver.js';

export const DEFAULT_OPTIONS: PoolOptions = {
  maxGuests: 2,
  warmGuests: 0,
  jobsPerGuest: 2,
  isolation: 'client',
  idleTimeoutMs: 60_000,
  maxBuilds: 100,
  maxAgeMs: 3_600_000,
  bootTimeoutMs: 30_000,
};

export interface SessionRequest {
  readonly domain?: string | undefined;
  readonly avoid?: readonly string[] | undefined;
  readonly alone?: boolean | undefined;
  readonly maxBuilds?: number | undefined;
}

/** A session that asks for a lease, and returns it if its client has left meanwhile. */
export class Session {
  readonly controller = new AbortController();
  readonly promise: Promise<Lease>;
  lease: Lease | undefined;
  /** Set once the session has to wait. */
  place: (() => WaitPlace) | undefined;
  error: unknown;

  constructor(pool: Pool, request: SessionRequest) {
    this.promise = this.#ask(pool, request);
    this.promise.then(
      (lease) => (this.lease = lease),
      (error: unknown) => (this.error = error),
    );
  }

  async #ask(
    pool: Pool,
    { domain = 'uid:0', avoid = [], alone = false, maxBuilds }: SessionRequest,
  ): Promise<Lease> {
    const { signal } = this.controller;
    const onWait = (place: () => WaitPlace): void => {
      this.place = place;
    };
    const lease = await pool.lease({ domain, avoid: new Set(avoid), alone, maxBuilds, onWait, signal });
    if (signal.aborted) await lease[Symbol.asyncDispose]();
    signal.throwIfAborted();
    return lease;
  }

  /** `waiting`, the guest, or the error. */
  get state(): string {
    if (this.error !== undefined) return `${errorCode(this.error) ?? 'Error'}: ${errorMessage(this.error)}`;
    return this.lease?.guest.id ?? 'waiting';
  }

  async return(): Promise<void> {
    await this.lease?.[Symbol.asyncDispose]();
  }

  retire(reason: RetireReason): void {
    this.lease?.retire(reason);
  }
}

/** A pool on a fake clock and a fake driver. */
export class Harness {
  readonly clock = new FakeClock(1000);
  readonly driver = new FakeDriver();
  readonly pool: Pool;
  readonly events: PoolEvent[] = [];
  readonly sessions = new Map<string, Session>();

  constructor(options: Partial<PoolOptions> = {}) {
    const probe: Probe = async (running) => {
      await [...this.driver.guests.values()].find((guest) => guest === running)?.probe();
    };
    const log = createLog('silent');
    this.pool = new Pool(this.driver, { ...DEFAULT_OPTIONS, ...options }, this.clock, log, probe);
    this.pool.events.on((event) => this.events.push(event));
  }

  lease(name: string, request: SessionRequest = {}): Session {
    const session = new Session(this.pool, request);
    this.sessions.set(name, session);
    return session;
  }

  session(name: string): Session {
    const session = this.sessions.get(name);
    if (session === undefined) throw new Error(`Session ${name} has not asked for a lease`);
    return session;
  }

  async boot(id: string): Promise<void> {
    this.driver.bootOf(id).succeed();
    await settled();
  }

  async failBoot(id: string, why: string): Promise<void> {
    this.driver.bootOf(id).fail(this.driver.bootError(id, why));
    await settled();
  }

  /** By guest: its state, and how many leases it has if any. */
  guests(): Record<string, string> {
    return Object.fromEntries(
      this.pool
        .snapshot()
        .guests.map(({ id, state, leases }) => [id, leases > 0 ? `${state} ${leases}` : state]),
    );
  }
}

/** One line an event, for people to read in scenarios. */
export function eventText(event: PoolEvent): string {
  switch (event.type) {
    case 'guest-state':
      return `${event.guest} ${event.from ?? 'none'} -> ${event.to}${event.reason === undefined ? '' : `: ${event.reason}`}`;
    case 'share-retried':
      return `${event.guest}: the share lacked files, ${event.retries} times`;
    case 'boot-finished':
      return `${event.guest} boot ${event.result} after ${event.durationMs} ms`;
    case 'guest-retired':
      return `${event.guest} retired: ${event.reason}`;
    case 'lease-granted':
      return `${event.guest} granted after ${event.waitedMs} ms`;
    case 'lease-returned':
      return `${event.guest} returned`;
    case 'rollout-finished':
      return `${event.generation} ${event.result}`;
    case 'program-started':
      return `${event.guest} is for ${event.program}`;
    case 'program-ended':
      return `${event.guest} of ${event.program} ended`;
    case 'lease-waiting':
      return 'waiting';
    case 'lease-refused':
      return `refused after ${event.waitedMs} ms`;
  }
}
