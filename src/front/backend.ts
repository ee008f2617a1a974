import { lookUpInputs, type Inputs } from '../guest/provision.js';
import type { CaseHackDetector } from '../guest/case-hack.js';
import { queryClosure } from '../guest/closure.js';
import type { HostStore } from '../host-store/host-store.js';
import { WorkerClient } from '../host-store/worker-client.js';
import type { Emitter } from '../lib/emitter.js';
import { DroverError } from '../lib/errors.js';
import type { Lease, Leaser } from '../pool/lease.js';
import type { StorePath } from '../protocol/store-path.js';
import { formatVersion, type ProtocolVersion } from '../protocol/version.js';
import type { FrontEvent } from './events.js';

/** Guests in a row that may turn out to be of no use for a session. Each of them is retired, so there are few. */
const MAX_UNFIT_GUESTS = 8;

export interface BackendOptions {
  readonly host: HostStore;
  readonly leaser: Leaser;
  readonly caseHack: CaseHackDetector;
  readonly events: Emitter<FrontEvent>;
  /** Negotiated with the client: the guest must speak the same, since its bytes are passed on. */
  readonly version: ProtocolVersion;
  /** The client is gone. */
  readonly gone: AbortSignal;
}

/** What stands behind one session: a connection to the host's store, and once it is needed a lease with one to a guest. */
export class Backend implements AsyncDisposable {
  readonly #options: BackendOptions;
  #host: Promise<WorkerClient> | undefined;
  #lease: Lease | undefined;
  #guest: WorkerClient | undefined;
  /** Another connection to the same guest. */
  #side: WorkerClient | undefined;
  #settings: readonly Uint8Array[] | undefined;
  #bound = false;

  constructor(options: BackendOptions) {
    this.#options = options;
  }

  /** The host's store, connected on first use: a handshake needs none. */
  async host(): Promise<WorkerClient> {
    this.#host ??= this.#options.host.connect();
    return await this.#host;
  }

  get lease(): Lease | undefined {
    return this.#lease;
  }

  /** The connection to the guest, if there is a lease. */
  get guest(): WorkerClient | undefined {
    return this.#guest;
  }

  /** Whether the client has something in this very guest, an upload or a result, so that no other can take its place. */
  get bound(): boolean {
    return this.#bound;
  }

  bind(): void {
    this.#bound = true;
  }

  /** The client's SetOptions request, which every guest of this session is told too. */
  async setSettings(request: readonly Uint8Array[]): Promise<void> {
    this.#settings = request;
    await this.#guest?.forward(request);
  }

  /** Paths, with all that they refer to, as the host knows them; pinned there until the session ends. */
  async lookUp(paths: Iterable<StorePath>): Promise<Inputs> {
    return await lookUpInputs(await this.host(), paths, this.#options.caseHack);
  }

  /**
   * What building these derivations can use of the host's store: themselves, and the outputs of everything that they
   * are built from. `missing` are outputs that the host does not have.
   */
  async lookUpBuild(
    derivations: readonly StorePath[],
  ): Promise<{ roots: StorePath[]; missing: StorePath[] }> {
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
   * Gets a lease and connects to its guest. A guest that takes one of `outputs` for valid, only because it was shared
   * from the host once, would not build it: such a guest is retired, and another one taken.
   * @param avoid guests that are of no use; more may be added
   */
  async takeGuest(
    outputs: readonly StorePath[],
    avoid = new Set<string>(),
  ): Promise<{ lease: Lease; guest: WorkerClient }> {
    while (avoid.size <= MAX_UNFIT_GUESTS) {
      const lease = await this.#options.leaser.lease({ avoid: new Set(avoid), signal: this.#options.gone });
      this.#lease = lease;
      if (lease.guest.store.sharesAnyOf(outputs)) {
        avoid.add(lease.guest.id);
        await this.dropGuest('conflict');
        continue;
      }
      this.#guest = await this.#connect(lease);
      if (this.#settings !== undefined) await this.#guest.forward(this.#settings);
      return { lease, guest: this.#guest };
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
    if (this.#guest !== undefined && paths.length > 0)
      await this.#provision(await this.lookUp(paths), this.#guest, 'keep');
  }

  /** The same while the guest is in the middle of an operation: over another connection. */
  async provisionMeanwhile(paths: readonly StorePath[]): Promise<void> {
    if (this.#lease === undefined || paths.length === 0) return;
    const inputs = await this.lookUp(paths);
    if (inputs.infos.size === 0) return;
    this.#side ??= await this.#connect(this.#lease);
    await this.#provision(inputs, this.#side, 'keep');
  }

  async #provision(inputs: Inputs, guest: WorkerClient, onConflict: 'throw' | 'keep'): Promise<void> {
    if (this.#lease === undefined) return;
    const { store, id } = this.#lease.guest;
    const done = await store.provision(inputs, await this.host(), guest, onConflict);
    this.#options.events.emit({ type: 'provisioned', guest: id, ...done });
  }

  /** Returns the lease, and lets the guest go for a reason. */
  async dropGuest(retire?: 'conflict' | 'lost'): Promise<void> {
    const lease = this.#lease;
    this.#guest?.channel.destroy();
    this.#side?.channel.destroy();
    this.#guest = undefined;
    this.#side = undefined;
    this.#lease = undefined;
    if (retire !== undefined) lease?.retire(retire);
    await lease?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dropGuest();
    await this.#host?.then(
      (host) => host[Symbol.asyncDispose](),
      () => undefined,
    );
  }

  async #connect(lease: Lease): Promise<WorkerClient> {
    const { version } = this.#options;
    const guest = await WorkerClient.connect(await lease.guest.openDaemon(), version);
    if (formatVersion(guest.version) === formatVersion(version)) return guest;
    guest.channel.destroy();
    throw new DroverError(
      'GUEST_VERSION',
      `The guest speaks protocol ${formatVersion(guest.version)}, but its image's manifest promised ${formatVersion(version)}`,
      { hint: 'Make the image anew: its Nix and its manifest belong together.' },
    );
  }
}
