import type { GuestDriver, RunningGuest } from '../guest/driver.js';
import { GuestAgent } from '../guest/agent.js';
import { IdleConnections } from '../daemon/idle-connections.js';
import { GuestStore } from '../guest/provision.js';
import type { DroverError } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import type { GuestSnapshot } from './events.js';
import type { LeasedGuest } from './lease.js';
import type { GuestView, RetireReason } from './view.js';
import type { GuestState } from './state.js';

/** One guest in the pool's books. Only the pool writes to it. */
export class GuestRecord implements GuestView {
  readonly id: string;
  /** What makes it: a later configuration may make guests by another. */
  readonly driver: GuestDriver;
  readonly bornAt: number;
  readyAt: number;
  readonly startedWall: number;
  /** Second boot in a row: if it fails too, whoever waits is told. */
  readonly isRetry: boolean;
  /** Gives up the boot. */
  readonly bootAbort = new AbortController();
  state: GuestState = 'booting';
  leases = 0;
  builds = 0;
  idleSince: number;
  retire: RetireReason | undefined;
  stopping = false;
  asleep = false;
  bootedWall: number | undefined;
  running: RunningGuest | undefined;
  leased: LeasedGuest | undefined;
  statsAt = -Infinity;
  /** It will be asked for its statistics in a moment. */
  statsDue = false;
  readonly #lost = new AbortController();

  constructor(id: string, driver: GuestDriver, now: number, wallNow: number, isRetry: boolean) {
    this.id = id;
    this.driver = driver;
    this.bornAt = now;
    this.readyAt = now;
    this.idleSince = now;
    this.startedWall = wallNow;
    this.isRetry = isRetry;
  }

  /** The guest runs now. */
  attach(running: RunningGuest, now: number, wallNow: number, log: Log): void {
    this.readyAt = now;
    this.idleSince = now;
    this.bootedWall = wallNow;
    const agent = new GuestAgent(running);
    agent.prepareRegister();
    this.running = running;
    this.leased = {
      id: this.id,
      agent,
      store: new GuestStore(agent, log, running.rememberedFiles),
      connections: new IdleConnections(),
      lost: this.#lost.signal,
      openDaemon: () => running.openDaemon(),
    };
  }

  /** The guest is gone: whoever holds a lease learns it. */
  markLost(reason: DroverError): void {
    this.#lost.abort(reason);
  }

  snapshot(now: number): GuestSnapshot {
    return {
      id: this.id,
      state: this.state,
      driver: this.driver.name,
      leases: this.leases,
      builds: this.builds,
      startedAt: new Date(this.startedWall).toISOString(),
      bootedAt: this.bootedWall === undefined ? null : new Date(this.bootedWall).toISOString(),
      idleSeconds: this.leases > 0 || this.state !== 'ready' ? 0 : Math.round((now - this.idleSince) / 1000),
      asleep: this.asleep,
      sharedPaths: this.leased?.store.sharedPaths ?? 0,
      consoleLog: this.driver.consoleLog(this.id),
    };
  }
}
