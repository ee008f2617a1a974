import { rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';

import { AuditLog } from './audit/audit-log.js';
import { maxAdvertisedJobs, SSH_ALIAS } from './cli/machine-formats.js';
import { diffConfig, type ConfigChange } from './config/diff.js';
import type { Config } from './config/schema.js';
import type { DroverEvent, Status } from './control/api.js';
import { openGroupSocket } from './control/group-socket.js';
import { Operator } from './control/operator.js';
import { RecentEvents } from './control/recent-events.js';
import { Runs } from './control/runs.js';
import { serveControl } from './control/server.js';
import { TotalsCounter } from './control/totals.js';
import { Vms, type MachineConfig } from './control/vms.js';
import { openSocketDoor, type SocketDoor } from './doors/socket-door.js';
import type { SshDoor } from './doors/ssh/door.js';
import type { GuestDriver } from './guest/driver.js';
import type { ClientPolicy } from './front/identity.js';
import { Front } from './front/front.js';
import { CountingJournal, type BuildJournal } from './front/journal.js';
import { nixWarning, requireSafeNix } from './guest/vulnerable-nix.js';
import { CaseHackDetector } from './guest/case-hack.js';
import { BuildHistory } from './history/history.js';
import { HistoryJournal } from './history/journal.js';
import { hostFacts, hostWarnings, type HostFacts } from './host-warnings.js';
import type { HostStore } from './host-store/host-store.js';
import { lastSessions } from './last-sessions.js';
import { readSigningKey } from './host-store/signing-key.js';
import { systemClock } from './lib/clock.js';
import { DescriptorBudget } from './lib/descriptors.js';
import { Emitter } from './lib/emitter.js';
import { DroverError, errorCode } from './lib/errors.js';
import { clearStaleSocket } from './lib/listen.js';
import type { Log } from './lib/log.js';
import { descriptorLimit } from './lib/native.js';
import { makeOwnDir } from './lib/private-dir.js';
import { StateDir } from './lib/state-dir.js';
import { collectMetrics } from './metrics/collect.js';
import { serveMetrics } from './metrics/http.js';
import { loadAssets } from './page/assets.js';
import { MAX_PAGE_STREAMS, WebPage } from './page/page.js';
import { Pool } from './pool/pool.js';
import type { PathSigner } from './protocol/signature.js';
import { Rollout } from './pool/rollout.js';
import { formatVersion } from './protocol/version.js';

export interface SupervisorParts {
  readonly config: Config;
  readonly version: string;
  readonly host: HostStore;
  readonly createDriver: (config: Config) => Promise<GuestDriver>;
  /** Likewise, for machines of people. @throws DroverError if the image is for another architecture than this host's */
  readonly createMachineDriver: (config: Config) => Promise<GuestDriver>;
  /** The compiled drover-connect. */
  readonly connectProgram: string;
  /** The compiled doors/ssh/server-main.js. */
  readonly sshServerProgram: string;
  readonly log: Log;
}

/** Sessions that an ssh client may have open besides one for each job: `nix copy`, and questions about paths. */
const SPARE_SESSIONS = 64;

/** Records of builds, and signatures. */
interface Records {
  readonly audit: AuditLog | undefined;
  readonly signer: PathSigner | undefined;
  readonly history: BuildHistory | undefined;
}

/** Why Drover takes no builds, for probes. */
const UNHEALTHY: Readonly<Record<Status['state'], string | undefined>> = {
  running: undefined,
  drained: 'drained: builds wait until drover resume',
  draining: 'draining: no new builds are taken',
};

const HINT_STATE_DIR =
  'Run drover as the owner of that directory, or choose another stateDir in the configuration.';

/** Composes everything that `drover serve` runs. */
export class Supervisor {
  readonly #parts: SupervisorParts;
  #config: Config;
  #driver: GuestDriver;
  readonly #pool: Pool;
  readonly #front: Front;
  readonly #audit: AuditLog | undefined;
  readonly #history: BuildHistory | undefined;
  readonly #operator: Operator;
  readonly #recentEvents = new RecentEvents(systemClock);
  readonly #rollout: Rollout;
  #restartKeys: readonly string[] = [];
  #reloadError: Status['reloadError'] = null;
  #host: HostFacts = { memoryBytes: Infinity, mounts: '' };
  readonly #totals = new TotalsCounter();
  readonly #reloads = new Emitter<'ok' | 'failed'>();
  readonly #toldWarnings = new Set<string>();
  readonly #startedAt = new Date().toISOString();
  /** Close what was opened, the last first. */
  readonly #closers: (() => Promise<void>)[] = [];
  #state: 'running' | 'draining' = 'running';
  readonly #killed = new AbortController();
  readonly #metrics: ReturnType<typeof collectMetrics>;
  #socketDoor: SocketDoor | undefined;
  #ssh: SshDoor | undefined;
  #metricsPort: number | undefined;

  private constructor(parts: SupervisorParts, driver: GuestDriver, { audit, signer, history }: Records) {
    const { config, log, host } = parts;
    this.#parts = parts;
    this.#audit = audit;
    this.#config = config;
    this.#driver = driver;
    const descriptors = new DescriptorBudget(descriptorLimit(), systemClock);
    this.#history = history;
    this.#pool = new Pool(driver, config.pool, systemClock, log);
    this.#rollout = new Rollout({
      tryOut: (other, signal) => this.#pool.tryOut(other, signal),
      adopt: (other) => {
        this.#adopt(other);
      },
      emit: (event) => {
        this.#pool.events.emit(event);
      },
      clock: systemClock,
      log,
    });
    this.#front = new Front({
      manifest: driver.manifest,
      systems: () => servedSystems(this.#config, this.#driver),
      translated: () => this.#driver.translatedSystems ?? new Set(),
      policy: () => clientPolicy(this.#config),
      host,
      leaser: this.#pool,
      caseHack: new CaseHackDetector(),
      journal: journalOf(history),
      audit,
      signer,
      overload: () => descriptors.shortage(),
      clock: systemClock,
      log,
    });
    const runs = new Runs({
      host,
      caseHack: new CaseHackDetector(),
      boot: (request) => this.#pool.bootPrivate(this.#driver, request),
      systems: () => servedSystems(this.#config, this.#driver),
      noHost: () => this.#driver.noHost,
    });
    const vms = new Vms({
      host,
      driver: () => this.#driver,
      createDriver: (own) => parts.createMachineDriver(machineConfig(this.#config, this.#driver, own)),
      start: (machineDriver, name, options) => this.#pool.startMachine(machineDriver, name, options),
    });
    this.#operator = new Operator({
      ...{ runs, vms },
      ...{ front: this.#front, pool: this.#pool, history },
      consoleLogs: new StateDir(config.stateDir).logs,
      status: () => this.status(),
      events: this.#recentEvents,
    });
    this.#metrics = collectMetrics({
      pool: this.#pool,
      front: this.#front,
      version: parts.version,
      nixVersion: driver.manifest.nixVersion,
      driver: driver.name,
      systems: driver.manifest.systems,
      service: () => ({
        wanted: wantedSystems(this.#config, this.#driver),
        served: servedSystems(this.#config, this.#driver),
      }),
      reloads: this.#reloads,
    });
    const onEvent = (event: DroverEvent): void => {
      this.#totals.count(event);
      this.#recentEvents.add(event);
      if (event.type === 'boot-finished') this.#tellWarnings();
    };
    this.#pool.events.on(onEvent);
    this.#front.events.on(onEvent);
  }

  /**
   * Starts everything. When it rejects, nothing is left open.
   * @throws DroverError of any part that rejects the host or the configuration
   */
  static async start(parts: SupervisorParts): Promise<Supervisor> {
    try {
      return await Supervisor.#start(parts);
    } catch (error) {
      // A nix-daemon of its own would keep this process alive.
      await parts.host.close();
      throw errorCode(error) === 'ENOSPC' ? noSpace(parts.config.stateDir, error) : error;
    }
  }

  static async #start(parts: SupervisorParts): Promise<Supervisor> {
    const { config, log, host } = parts;
    const stateDir = new StateDir(config.stateDir);
    await makeOwnDir(stateDir.path, stateDir.entries, HINT_STATE_DIR);
    // Detects another supervisor with this state directory before touching any of its files.
    await clearStaleSocket(stateDir.controlSocket);
    // On a host whose Nix was never used, this makes the store's directory. If it fails, it is tried again below.
    await host.connect().then(
      (connection) => connection[Symbol.asyncDispose](),
      () => undefined,
    );
    const driver = await parts.createDriver(config);
    requireSystems(config, driver);
    requireNix(config, driver);
    const signer =
      config.signing.secretKeyFile === null ? undefined : await readSigningKey(config.signing.secretKeyFile);
    const audit = config.audit.file === null ? undefined : await AuditLog.open(config.audit.file, log);
    const history = await openHistory(config, log);
    const supervisor = new Supervisor(parts, driver, { audit, signer, history });
    try {
      // On a host whose Nix was never used, this also makes the store's directory.
      await (await host.connect())[Symbol.asyncDispose]();
      await supervisor.#open();
    } catch (error) {
      await supervisor.#close();
      throw error;
    }
    const { nixVersion, systems } = driver.manifest;
    const { version } = parts;
    const started = { type: 'start', version, pid: process.pid, driver: driver.name, nixVersion };
    audit?.record(started);
    supervisor.#host = await hostFacts();
    supervisor.#tellWarnings();
    log.info(
      { driver: driver.name, nixVersion, systems, doors: supervisor.status().doors },
      'drover is ready',
    );
    return supervisor;
  }

  async #open(): Promise<void> {
    const config = this.#config;
    const { connectProgram, log } = this.#parts;
    const { controlSocket, pidFile } = new StateDir(config.stateDir);
    const control = await serveControl(controlSocket, this.#operator);
    this.#closers.push(() => control.close());
    this.#closers.push(() => rm(pidFile, { force: true }));
    await writeFile(pidFile, `${process.pid}\n`, { mode: 0o600 });
    // The control socket is ours, so no other supervisor has guests in this state directory.
    for (const found of await this.#driver.reap()) log.warn({ found }, 'cleaned up after an earlier run');
    // Opened before the doors and closed after them, so that health is reported to the end.
    if (config.metrics !== null) {
      const { listen, page } = config.metrics;
      const metrics = await serveMetrics({
        ...listen,
        metrics: this.#metrics,
        log,
        ...(page ? { page: await this.#webPage(listen.host) } : {}),
        unhealthy: () => UNHEALTHY[this.#currentState],
      });
      this.#metricsPort = metrics.port;
      this.#closers.push(() => metrics.close());
    }
    const { group, path: lookSocket } = config.control;
    if (group !== null) {
      const look = await openGroupSocket(lookSocket, group, this.#operator);
      this.#closers.push(() => look.close());
    }
    const { path, restartGraceMs } = config.doors.socket;
    const socket = await openSocketDoor(this.#front, path, { connect: connectProgram, restartGraceMs });
    this.#socketDoor = socket;
    this.#closers.push(() => socket.close());
    this.#closers.push(async () => this.#ssh?.close());
    await this.#configureSsh(config);
    this.#pool.start();
  }

  async #webPage(host: string): Promise<{ answer: WebPage['answer']; maxStreams: number }> {
    const { answer } = new WebPage({
      operator: this.#operator,
      hostNames: [host, hostname()],
      assets: await loadAssets(),
      clock: systemClock,
      log: this.#parts.log,
    });
    return { answer, maxStreams: MAX_PAGE_STREAMS };
  }

  #metricsUrl(path: string): string | null {
    if (this.#metricsPort === undefined) return null;
    return `http://${address(this.#config.metrics?.listen.host ?? '', this.#metricsPort)}/${path}`;
  }

  /** Opens the ssh door, closes it, or tells it who its clients are now. */
  async #configureSsh({ stateDir, pool, doors }: Config): Promise<void> {
    const { listen, clients } = doors.ssh;
    if (clients.length === 0) {
      await this.#ssh?.close();
      this.#ssh = undefined;
      return;
    }
    const maxSessions = maxAdvertisedJobs(pool) + SPARE_SESSIONS;
    if (this.#ssh !== undefined) {
      this.#ssh.configure(clients, maxSessions);
      return;
    }
    // Imported only here: the ssh library takes 15 MB of memory.
    const { loadHostKey, writeKnownHosts } = await import('./doors/host-key.js');
    const { SshDoor } = await import('./doors/ssh/door.js');
    const { sshHostKey, sshKnownHosts, sshStreams } = new StateDir(stateDir);
    const hostKey = await loadHostKey(sshHostKey);
    await writeKnownHosts(sshKnownHosts, SSH_ALIAS, hostKey);
    const { sshServerProgram, log } = this.#parts;
    const program = { dir: sshStreams, program: sshServerProgram };
    this.#ssh = await SshDoor.open(this.#front, {
      ...listen,
      ...program,
      clients,
      maxSessions,
      hostKey,
      log,
    });
  }

  get #currentState(): Status['state'] {
    return this.#state === 'running' && this.#pool.paused ? 'drained' : this.#state;
  }

  /** The configuration in force; keys that take a restart still have their old values. */
  get config(): Config {
    return this.#config;
  }

  status(): Status {
    const config = this.#config;
    const { version } = this.#parts;
    const { manifest, name } = this.#driver;
    const { maxGuests, jobsPerGuest } = config.pool;
    return {
      version,
      pid: process.pid,
      state: this.#currentState,
      startedAt: this.#startedAt,
      driver: name,
      warnings: this.#warnings,
      nixVersion: manifest.nixVersion,
      protocol: formatVersion({ ...manifest.protocol, features: new Set(manifest.protocol.features) }),
      systems: servedSystems(config, this.#driver),
      features: config.features,
      maxJobs: maxGuests * jobsPerGuest,
      doors: {
        socket: config.doors.socket.path,
        ssh: this.#ssh === undefined ? null : address(config.doors.ssh.listen.host, this.#ssh.port),
      },
      metrics: this.#metricsUrl('metrics'),
      page: config.metrics?.page === true ? this.#metricsUrl('') : null,
      rollout: this.#rollout.snapshot,
      restartKeys: this.#restartKeys,
      reloadError: this.#reloadError,
      ...this.#pool.snapshot(),
      sessions: this.#front.sessions,
      builds: this.#operator.runningBuilds,
      totals: this.#totals.totals,
    };
  }

  /**
   * Applies another configuration as far as that goes without a restart: pool limits at once, guest settings as soon as
   * one guest has shown that it works with them. If it rejects, nothing has changed.
   * @returns the changed keys, and when each takes effect
   * @throws DroverError of the driver about the new guests, or `SYSTEM_NOT_SERVED`
   */
  async reload(config: Config): Promise<readonly ConfigChange[]> {
    const { changes, next } = diffConfig(this.#config, config);
    const isNew = changes.some(({ kind }) => kind === 'new guests') || this.#rollout.snapshot !== null;
    const driver = isNew ? await this.#parts.createDriver(next) : this.#driver;
    requireSystems(next, driver);
    requireNix(next, driver);
    await this.#configureSsh(next);
    this.#config = next;
    this.#parts.log.level = next.log.level;
    if (next.history !== null) this.#history?.configure(next.history);
    this.#restartKeys = changes.filter(({ kind }) => kind === 'restart').map(({ key }) => key);
    if (driver.manifest.generation === this.#driver.manifest.generation) {
      this.#rollout.cancel();
      this.#adopt(driver);
    } else {
      this.#pool.configure(next.pool, this.#driver);
      if (this.#state === 'running') this.#rollout.begin(driver);
    }
    return changes;
  }

  /** Boots guests with this driver from now on. */
  #adopt(driver: GuestDriver): void {
    this.#driver = driver;
    this.#front.configure(driver.manifest);
    this.#tellWarnings();
    this.#pool.configure(this.#config.pool, driver);
  }

  get #warnings(): readonly string[] {
    const { name, manifest, warnings } = this.#driver;
    const known = [nixWarning(manifest.nixVersion), ...warnings].filter((text) => text !== undefined);
    return [...known, ...hostWarnings(this.#config, name, this.#host)];
  }

  /** Logs each warning once. Guests can add more while they run. */
  #tellWarnings(): void {
    const { name } = this.#driver;
    for (const warning of this.#warnings) {
      if (this.#toldWarnings.has(warning)) continue;
      this.#toldWarnings.add(warning);
      this.#parts.log.warn({ driver: name, warning }, 'driver is degraded');
    }
  }

  /** Continues in new files after the old ones were renamed. */
  reopenFiles(): void {
    this.#audit?.reopen();
  }

  /** Takes note of how a reload went. @param error why it failed */
  noteReload(error?: string): void {
    this.#reloadError = error === undefined ? null : { at: new Date().toISOString(), reason: error };
    this.#reloads.emit(error === undefined ? 'ok' : 'failed');
  }

  /** Takes no more sessions; those that are open may finish, and wait for guests. Settles when no guest is left. */
  async drain(): Promise<void> {
    this.#state = 'draining';
    this.#operator.endPrograms();
    // Nix takes another builder.
    this.#ssh?.suspend();
    // Clients of this host wait for the next supervisor.
    await this.#socketDoor?.suspend();
    await this.#rollout.end();
    // No build waits for `drover resume` any longer.
    if (!this.#pool.paused) await this.#lastSessions();
    await this.#pool.drain();
  }

  async #lastSessions(): Promise<void> {
    await lastSessions({
      front: this.#front,
      busy: () => {
        const { leases, waiting } = this.#pool.snapshot();
        return leases + waiting;
      },
      progress: () => this.progress,
      clock: systemClock,
      over: this.#killed.signal,
    });
  }

  /** Changes whenever a build, an upload or a download makes progress. */
  get progress(): string {
    const { receivedBytes, sentBytes } = this.#front.openBytes;
    return [this.#front.sessions, this.#pool.snapshot().leases, receivedBytes, sentBytes].join(' ');
  }

  /** Kills all guests. Settles when none is left. */
  async kill(): Promise<void> {
    this.#state = 'draining';
    this.#operator.endPrograms();
    this.#killed.abort();
    await this.#pool.kill();
  }

  /** Closes doors, sessions and sockets. The guests must be gone. */
  async close(): Promise<void> {
    await this.#close();
  }

  async #close(): Promise<void> {
    await this.#front.farewell();
    this.#front.closeAll();
    for (const close of this.#closers.splice(0).reverse()) await close();
    await this.#history?.close();
    await this.#parts.host.close();
    this.#audit?.record({ type: 'stop' });
    this.#audit?.close();
  }
}

async function openHistory(
  { history: limits, stateDir }: Config,
  log: Log,
): Promise<BuildHistory | undefined> {
  if (limits === null) return undefined;
  return await BuildHistory.open({ dir: new StateDir(stateDir).history, limits, clock: systemClock, log });
}

function journalOf(history: BuildHistory | undefined): BuildJournal {
  return history === undefined ? new CountingJournal() : new HistoryJournal(history, systemClock);
}

function noSpace(stateDir: string, cause: unknown): DroverError {
  return new DroverError('NO_SPACE', `The file system of ${stateDir} has no free space or no free inode`, {
    cause,
    hint: 'Free some space there (see `df -h` and `df -i`), or choose another stateDir in the configuration.',
  });
}

function address(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** @throws DroverError `NIX_VULNERABLE` */
function requireNix({ doors, guest }: Config, { manifest }: GuestDriver): void {
  requireSafeNix(manifest.nixVersion, {
    hasSshDoor: doors.ssh.clients.length > 0,
    accepted: guest.acceptVulnerableNix,
  });
}

/** The configuration of a machine: that of guests, but for what its user has chosen. */
function machineConfig(
  config: Config,
  { name }: GuestDriver,
  { image, memoryBytes = config.guest.memoryBytes, cores = config.guest.cores }: MachineConfig,
): Config {
  const driver = name as Config['driver'];
  return { ...config, driver, guest: { ...config.guest, image, memoryBytes, cores } };
}

/** Nix systems of the configuration, or else of the image, whether or not this host can build them. */
function wantedSystems({ systems }: Config, { manifest, absentSystems }: GuestDriver): readonly string[] {
  return systems ?? [...manifest.systems, ...(absentSystems ?? [])];
}

/** Nix systems that guests build now. */
function servedSystems(config: Config, driver: GuestDriver): readonly string[] {
  const { brokenSystems, absentSystems } = driver;
  return wantedSystems(config, driver).filter(
    (system) => brokenSystems?.has(system) !== true && absentSystems?.has(system) !== true,
  );
}

function clientPolicy({ pool, doors, guest }: Config): ClientPolicy {
  const listed = ['substituters', 'trusted-substituters'].flatMap(
    (name) => guest.nixConf[name]?.split(/\s+/) ?? [],
  );
  return {
    confined: pool.isolation !== 'shared',
    keepFailedMs: guest.keepFailedMs,
    trustedPublicKeys: doors.ssh.trustedPublicKeys,
    substituters: new Set(listed.filter((url) => url !== '')),
  };
}

/** @throws DroverError `SYSTEM_NOT_SERVED` */
function requireSystems(config: Config, driver: GuestDriver): void {
  const { systems } = driver.manifest;
  // A system that only this host lacks is a warning of the driver's: the rest can still be served.
  const unknown = config.systems?.find(
    (system) => !systems.includes(system) && driver.absentSystems?.has(system) !== true,
  );
  if (unknown === undefined) return;
  throw new DroverError(
    'SYSTEM_NOT_SERVED',
    `systems: ${driver.name} guests on this host cannot build ${unknown}; they build ${systems.join(', ')}`,
    { hint: `To build ${unknown} here, ${driver.systemsHint}, or take it out of systems.` },
  );
}
