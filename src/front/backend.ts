import { lookUpInputs, type Inputs } from '../guest/provision.js';
import type { CaseHackDetector } from '../guest/case-hack.js';
import { queryClosure } from '../guest/closure.js';
import type { HostConnection } from '../host-store/host-connection.js';
import type { HostStore } from '../host-store/host-store.js';
import type { WorkerClient } from '../daemon/worker-client.js';
import type { Emitter } from '../lib/emitter.js';
import { DroverError, errorCode } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import type { Lease, Leaser } from '../pool/lease.js';
import type { PathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import type { ProtocolVersion } from '../protocol/version.js';
import { unlessAborted } from './abortable.js';
import type { FrontEvent } from './events.js';
import { HeldLease } from './held-lease.js';
import type { Mentions } from './requests.js';

/** Guests in a row that may turn out to be of no use for a session. Each of them is retired, so there are few. */
const MAX_UNFIT_GUESTS = 8;

export interface BackendOptions {
  readonly host: Pick<HostStore, 'connect'>;
  readonly leaser: Leaser;
  readonly caseHack: CaseHackDetector;
  readonly events: Emitter<FrontEvent>;
  /** Negotiated with the client: the guest must speak the same, since its bytes are passed on. */
  readonly version: ProtocolVersion;
  /** The client is gone. */
  readonly gone: AbortSignal;
  readonly log: Log;
}

export interface TakenGuest {
  readonly lease: Lease;
  readonly guest: WorkerClient;
}

/** What a client can have in a guest: what it has put there, or had done; or what was built, which can be built again. */
type Bond = 'upload' | 'result';

/**
 * What stands behind one session: a connection to the host's store, and once it is needed a lease with one to a guest.
 *
 * INVARIANT: when the client goes in the middle of a request, every connection is closed, so that whatever waits for one of
 * them fails; and no new one is opened. When it goes after its last one, its connection to the guest is as good as new.
 */
export class Backend implements AsyncDisposable {
  readonly #options: BackendOptions;
  #host: Promise<HostConnection> | undefined;
  #held: HeldLease | undefined;
  #guest: WorkerClient | undefined;
  /** Another connection to the same guest. */
  #side: WorkerClient | undefined;
  #settings: readonly Uint8Array[] | undefined;
  #bound: Bond | undefined;
  #serving = false;

  constructor(options: BackendOptions) {
    this.#options = options;
    options.gone.addEventListener('abort', this.#hangUpHost, { once: true });
  }

  readonly #hangUpHost = (): void => {
    void this.#host?.then(
      (host) => host[Symbol.asyncDispose](),
      () => undefined,
    );
  };

  /** The host's store, connected on first use, since a handshake needs none; and again if its daemon has ended. */
  async host(): Promise<HostConnection> {
    const connecting = (this.#host ??= this.#connectHost());
    const host = await connecting;
    if (!host.gone.aborted || this.#options.gone.aborted) return host;
    if (this.#host === connecting) this.#host = this.#connectHost();
    return await this.host();
  }

  async #connectHost(): Promise<HostConnection> {
    return await unlessAborted(this.#options.gone, this.#options.host.connect(), (late) => {
      void late[Symbol.asyncDispose]();
    });
  }

  get lease(): Lease | undefined {
    return this.#held?.lease;
  }

  /** The connection to the guest, if there is a lease. */
  get guest(): WorkerClient | undefined {
    return this.#guest;
  }

  /** Whether the client has something in this very guest, so that no other can simply take its place. */
  get bound(): boolean {
    return this.#bound !== undefined;
  }

  /** Whether that is nothing but what was built there. */
  get holdsResultsOnly(): boolean {
    return this.#bound === 'result';
  }

  bind(bond: Bond): void {
    if (this.#bound !== 'upload') this.#bound = bond;
  }

  /** The client's SetOptions request, which every guest of this session is told too. */
  async setSettings(request: readonly Uint8Array[]): Promise<void> {
    this.#settings = request;
    await this.#guest?.forward(request);
  }

  /** Paths, with all that they refer to, as the host knows them; pinned there until the session ends. */
  async lookUp(paths: Iterable<StorePath>): Promise<Inputs> {
    const roots = [...paths];
    // What refers to nothing needs no connection to the host's store.
    if (roots.length === 0) return { infos: new Map(), unshareable: new Set(), files: new Map() };
    return await lookUpInputs(await this.host(), roots, this.#options.caseHack);
  }

  /** What the guest, if there is one, knows of a path that it has built itself or was sent by the client. */
  async ownInfo(path: StorePath): Promise<PathInfo | undefined> {
    if (this.lease?.guest.store.sharesAnyOf([path]) === true) return undefined;
    const [info] = (await this.#guest?.queryPathInfos([path])) ?? [];
    return info;
  }

  /** Bytes of the path's NAR, where it is valid on the host. It is pinned then. */
  async hostNarSize(path: StorePath): Promise<number | undefined> {
    const host = await this.host();
    await host.addTempRoots([path]);
    const [info] = await host.queryPathInfos([path]);
    // Nix has not always noted the size: then only the guest knows it.
    return info?.narSize === 0 ? undefined : info?.narSize;
  }

  /** Whether nobody need ask a guest about these: there is none yet, and they are paths that the host has. It pins them. */
  async hostSuffices({ paths, derivations }: Mentions): Promise<boolean> {
    if (this.#guest !== undefined || derivations.length > 0) return false;
    const wanted = [...new Set(paths)];
    const host = await this.host();
    await host.addTempRoots(wanted);
    return (await host.queryValidPaths(wanted)).length === wanted.length;
  }

  /**
   * What building these derivations can use of the host's store: themselves, and the outputs of everything that they
   * are built from. `missing` are outputs that the host does not have.
   */
  async lookUpBuild(
    derivations: readonly StorePath[],
  ): Promise<{ roots: StorePath[]; missing: StorePath[] }> {
    if (derivations.length === 0) return { roots: [], missing: [] };
    const host = await this.host();
    const closure = [...(await queryClosure(host, derivations)).keys()].filter((path) =>
      path.endsWith('.drv'),
    );
    const outputs = (await host.queryDerivationOutputs(closure)).flatMap((map) =>
      [...map.values()].filter((path) => path !== undefined),
    );
    const valid = new Set(await host.queryValidPaths(outputs));
    return { roots: [...derivations, ...valid], missing: outputs.filter((path) => !valid.has(path)) };
  }

  /**
   * The guest of this session; a lease and a connection are got where there is none yet. A guest that takes one of
   * `outputs` for valid, only because it was shared from the host once, would not build it: such a guest is retired,
   * and another one taken. So is one that is lost before anything was asked of it.
   * @param avoid guests that are of no use; more may be added
   * @throws DroverError `GUEST_CONFLICT`, and what `Leaser.lease` throws
   */
  async takeGuest(outputs: readonly StorePath[], avoid = new Set<string>()): Promise<TakenGuest> {
    while (avoid.size <= MAX_UNFIT_GUESTS) {
      const { lease } = (this.#held ??= await this.#takeLease(avoid));
      const { id, store } = lease.guest;
      if (store.sharesAnyOf(outputs)) {
        lease.retire('conflict');
        if (this.bound) throw alreadyThere(id);
        avoid.add(id);
        await this.dropGuest();
        continue;
      }
      try {
        return { lease, guest: await this.#connectGuest() };
      } catch (error) {
        if (this.#options.gone.aborted || !isLoss(error) || this.bound) throw error;
        this.#options.log.warn({ guest: id, err: error }, 'a guest cannot be reached; taking another one');
        avoid.add(id);
        await this.dropGuest('lost');
      }
    }
    throw new DroverError('GUEST_CONFLICT', `${avoid.size} guests in a row were of no use for this build`, {
      hint: 'Try again; if it stays, restart Drover.',
    });
  }

  /** Makes the inputs of a build valid in the guest. */
  async provision(inputs: Inputs): Promise<void> {
    if (this.#guest !== undefined) await this.#provision(inputs, this.#guest, 'throw');
  }

  /** Makes those of the paths valid in the guest that the host has and the guest has not. */
  async provisionMentioned(paths: readonly StorePath[]): Promise<void> {
    const [guest, store] = [this.#guest, this.lease?.guest.store];
    if (guest === undefined || store === undefined || paths.length === 0) return;
    // What was built or uploaded there is its own; what was shared may be gone from the host, or be another by now.
    const there = new Set(await guest.queryValidPaths(paths));
    const wanted = paths.filter((path) => !there.has(path) || store.sharesAnyOf([path]));
    if (wanted.length > 0) await this.#provision(await this.lookUp(wanted), guest, 'keep');
  }

  /** The same while the guest is in the middle of an operation: over another connection. */
  async provisionMeanwhile(paths: readonly StorePath[]): Promise<void> {
    if (this.#held === undefined || paths.length === 0) return;
    const inputs = await this.lookUp(paths);
    if (inputs.infos.size === 0) return;
    this.#side ??= await this.#held.connect(this.#options.version);
    await this.#provision(inputs, this.#side, 'keep');
  }

  async #provision(inputs: Inputs, guest: WorkerClient, onConflict: 'throw' | 'keep'): Promise<void> {
    if (inputs.infos.size === 0) return;
    if (this.#held === undefined) return;
    const { lease, over } = this.#held;
    const { store, id } = lease.guest;
    const provisioning = store.provision(inputs, await this.host(), guest, { onConflict, signal: over });
    // Others may be before this session, and a guest that hangs never answers: neither holds a lease for nobody.
    const done = await unlessAborted(over, provisioning);
    this.#options.events.emit({ type: 'provisioned', guest: id, ...done });
  }

  /** Between `begin` and `end` a request is being served. */
  begin(): void {
    this.#serving = true;
    // What a client that has gone meanwhile has sent before is not worth a build.
    if (this.#options.gone.aborted) this.#held?.giveUp();
  }

  end(): void {
    this.#serving = false;
  }

  /** Leaves the connection to the guest to the next session, if nothing but builds and questions went over it. */
  leaveConnection(): void {
    if (this.#held === undefined || this.#guest === undefined) return;
    // Settings stay with a connection, and who knows what else does.
    if (this.#settings !== undefined || this.#bound === 'upload') return;
    this.#held.leaveConnection(this.#guest);
    this.#guest = undefined;
  }

  /** Returns the lease, and lets the guest go for a reason. */
  async dropGuest(retire?: 'conflict' | 'lost'): Promise<void> {
    const held = this.#held;
    this.#guest?.channel.destroy();
    this.#side?.channel.destroy();
    this.#guest = undefined;
    this.#side = undefined;
    this.#held = undefined;
    this.#bound = undefined;
    if (retire !== undefined) held?.lease.retire(retire);
    await held?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#options.gone.removeEventListener('abort', this.#hangUpHost);
    await this.dropGuest();
    this.#hangUpHost();
  }

  async #takeLease(avoid: ReadonlySet<string>): Promise<HeldLease> {
    const { leaser, gone } = this.#options;
    const lease = await leaser.lease({ domain: 'uid:0', avoid: new Set(avoid), signal: gone });
    if (gone.aborted) await lease[Symbol.asyncDispose]();
    gone.throwIfAborted();
    return new HeldLease(lease, gone, () => this.#serving);
  }

  async #connectGuest(): Promise<WorkerClient> {
    if (this.#guest !== undefined) return this.#guest;
    if (this.#held === undefined) throw new DroverError('NO_LEASE', 'There is no lease');
    const { version } = this.#options;
    // What another session has left behind, it has left without settings.
    const left = this.#settings === undefined ? this.#held.takeConnection(version) : undefined;
    const guest = left ?? (await this.#held.connect(version));
    if (this.#settings !== undefined) await guest.forward(this.#settings);
    this.#guest = guest;
    return guest;
  }
}

/** Whether a guest could not be reached, rather than refused what it was asked. */
function isLoss(error: unknown): boolean {
  const code = errorCode(error);
  return code !== 'GUEST_VERSION' && code !== 'PROTOCOL_REMOTE_ERROR';
}

function alreadyThere(guest: string): DroverError {
  return new DroverError(
    'GUEST_CONFLICT',
    `The guest ${guest} holds what is to be built from an earlier use, and the host has it no more`,
    { hint: 'Start the build again: it gets another guest.', context: { guest } },
  );
}
