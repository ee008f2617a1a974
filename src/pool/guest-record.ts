import type { GuestDriver, RunningGuest } from '../guest/driver.js';
import { GuestAgent } from '../guest/agent.js';
import { Handshakes } from '../daemon/hang-watch.js';
import { IdleConnections } from '../daemon/idle-connections.js';
import { GuestStore } from '../guest/provision.js';
import type { DroverError } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import type { GuestSnapshot } from './events.js';
import type { LeasedGuest } from './lease.js';
import type { GuestView, RetireReason } from './view.js';
import type { GuestState } from './state.js';

/** One guest in the pool's books. Only the pool writes to it, and tells its index of each change. */
export class GuestRecord implements GuestView {
  readonly id: string;
  /** Its driver; after a reload, new guests may have another. */
  readonly driver: GuestDriver;
  readonly bornAt: number;
  readyAt: number;
  readonly startedWall: number;
  /** A boot after one that failed. */
  readonly isRetry: boolean;
  /** Ends the boot. */
  readonly bootAbort = new AbortController();
  state: GuestState = 'booting';
  leases = 0;
  shells = 0;
  /** Ids of failed builds that are kept in it. */
  keptBuilds: readonly string[] = [];
  builds = 0;
  domain: string | undefined;
  claimedAt = 0;
  idleSince: number;
  seenAt: number;
  drainingSince = 0;
  retire: RetireReason | undefined;
  stopping = false;
  asleep = false;
  probing = false;
  late = false;
  /** Why it gives no sign of life. */
  hang: string | undefined;
  bootedWall: number | undefined;
  running: RunningGuest | undefined;
  leased: LeasedGuest | undefined;
  scratch: GuestSnapshot['scratch'] | undefined;
  memory: GuestSnapshot['memory'] | undefined;
  statsAt = -Infinity;
  /** Its statistics are about to be asked for. */
  statsDue = false;
  /** See `GuestStats`; told once for each number. */
  shareRetries = 0;
  readonly #lost = new AbortController();

  constructor(id: string, driver: GuestDriver, now: number, wallNow: number, isRetry: boolean) {
    this.id = id;
    this.driver = driver;
    this.bornAt = now;
    this.readyAt = now;
    this.idleSince = now;
    this.seenAt = now;
    this.startedWall = wallNow;
    this.isRetry = isRetry;
  }

  get kept(): number {
    return this.keptBuilds.length;
  }

  attach(running: RunningGuest, now: number, wallNow: number, log: Log): void {
    this.readyAt = now;
    this.idleSince = now;
    this.seenAt = now;
    this.bootedWall = wallNow;
    const agent = new GuestAgent(running);
    agent.prepareRegister();
    this.running = running;
    this.leased = {
      id: this.id,
      generation: this.driver.manifest.generation,
      agent,
      store: new GuestStore(agent, log, running),
      connections: new IdleConnections(),
      handshakes: new Handshakes(),
      lost: this.#lost.signal,
      openDaemon: () => running.openDaemon(),
    };
  }

  /** Tells the holders of its leases that the guest is gone. */
  markLost(reason: DroverError): void {
    this.#lost.abort(reason);
  }

  snapshot(now: number): GuestSnapshot {
    return {
      id: this.id,
      state: this.state,
      driver: this.driver.name,
      domain: this.domain ?? null,
      leases: this.leases,
      shells: this.shells,
      keptBuilds: this.keptBuilds,
      builds: this.builds,
      startedAt: new Date(this.startedWall).toISOString(),
      bootedAt: this.bootedWall === undefined ? null : new Date(this.bootedWall).toISOString(),
      idleSeconds:
        this.leases > 0 || this.shells > 0 || this.state !== 'ready'
          ? 0
          : Math.round((now - this.idleSince) / 1000),
      asleep: this.asleep,
      scratch: this.scratch ?? null,
      memory: this.memory ?? null,
      sharedPaths: this.leased?.store.sharedPaths ?? 0,
      consoleLog: this.driver.consoleLog(this.id),
    };
  }
}
