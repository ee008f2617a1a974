import { WorkerClient } from '../daemon/worker-client.js';
import type { Inputs, Provisioned } from '../guest/provision.js';
import { DroverError } from '../lib/errors.js';
import type { Lease, LeasedGuest } from '../pool/lease.js';
import type { PathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import { formatVersion, type ProtocolVersion } from '../protocol/version.js';
import { unlessAborted } from '../lib/abortable.js';
import type { SessionContext } from './context.js';
import type { HostView } from './host-view.js';

/**
 * A session's tie to its guest. `upload`: data that exists nowhere else. `result`: outputs, which can be
 * rebuilt.
 */
export type Bond = 'upload' | 'result';

const NOTHING_PROVISIONED: Provisioned = { sharedPaths: 0, sharedBytes: 0, copiedPaths: 0, copiedBytes: 0 };

export interface SeatOptions {
  readonly context: SessionContext;
  readonly host: HostView;
  /** The client's last SetOptions request, which every guest of the session gets. */
  readonly settings: readonly Uint8Array[] | undefined;
  /** Whether one of the client's requests is being served. */
  readonly isServing: () => boolean;
}

/**
 * One guest of one session: the lease, and the connection to the guest's nix-daemon.
 *
 * INVARIANT: when the guest is lost, or the client goes in the middle of a request, the connection is closed, so that
 * whatever waits for the guest fails. When the client goes between requests, another session can use the connection.
 */
export class Seat implements AsyncDisposable {
  readonly lease: Lease;
  readonly #options: SeatOptions;
  readonly #over = new AbortController();
  #daemon: WorkerClient | undefined;
  #bond: Bond | undefined;

  private constructor(lease: Lease, options: SeatOptions) {
    this.lease = lease;
    this.#options = options;
    const { gone } = options.context.client;
    const { lost } = lease.guest;
    gone.addEventListener('abort', this.#onClientGone, { once: true });
    lost.addEventListener('abort', this.giveUp, { once: true });
    if (gone.aborted || lost.aborted) this.giveUp();
  }

  /**
   * Connects to the leased guest. If that fails, the lease remains the caller's.
   * @throws DroverError `GUEST_VERSION`, or why the guest cannot be reached
   */
  static async open(lease: Lease, options: SeatOptions): Promise<Seat> {
    const seat = new Seat(lease, options);
    try {
      const { settings, context } = options;
      // Earlier sessions leave connections without settings.
      const left =
        settings === undefined
          ? lease.guest.connections.take(context.version, context.identity.domain)
          : undefined;
      seat.#daemon = left ?? (await seat.#connect(context.version));
      if (settings !== undefined) await seat.#daemon.setOptions(settings);
      return seat;
    } catch (error) {
      seat.#detach();
      throw error;
    }
  }

  get guest(): LeasedGuest {
    return this.lease.guest;
  }

  /** The guest's nix-daemon. */
  get daemon(): WorkerClient {
    if (this.#daemon === undefined) throw new DroverError('NO_LEASE', 'The guest was not connected to');
    return this.#daemon;
  }

  /** If there is a bond, the client has something in this very guest, and another one cannot simply take its place. */
  get bond(): Bond | undefined {
    return this.#bond;
  }

  bind(bond: Bond): void {
    if (this.#bond !== 'upload') this.#bond = bond;
  }

  /** Returns what the guest says about a path that it has built or received; undefined for a path of the host's. */
  async ownInfo(path: StorePath): Promise<PathInfo | undefined> {
    if (this.guest.store.sharesAnyOf([path])) return undefined;
    const [info] = await this.daemon.queryPathInfos([path]);
    return info;
  }

  /**
   * Makes sure that a build makes its outputs itself: one that is valid in the guest already would be taken for its
   * result, and an upload, or a build of another client, may have put anything there.
   * @throws DroverError `GUEST_CONFLICT`
   */
  async requireUnbuilt(outputs: readonly StorePath[]): Promise<void> {
    const { store, id: guest } = this.guest;
    const unknown = store.notBuiltBy(this.#options.context.identity.domain, outputs);
    const [path] = await this.daemon.queryValidPaths(unknown);
    if (path === undefined) return;
    throw new DroverError(
      'GUEST_CONFLICT',
      `The guest ${guest} holds ${path}, which none of your builds has made there`,
      {
        hint: 'Start the build again: it gets another guest.',
        context: { guest, path },
      },
    );
  }

  /** Records that a build has made its outputs in the guest. */
  noteBuilt(outputs: readonly StorePath[]): void {
    this.guest.store.noteBuilt(outputs, this.#options.context.identity.domain);
  }

  /** Makes the inputs of a build valid in the guest. @throws GuestConflictError */
  async provision(inputs: Inputs): Promise<Provisioned> {
    return await this.#provision(inputs, 'throw');
  }

  /** Makes paths valid in the guest that the host has and the guest has not. */
  async provisionMentioned(paths: readonly StorePath[]): Promise<void> {
    if (paths.length === 0) return;
    // The guest keeps what it has built or received. A shared path may have changed on the host, or be gone from it.
    const valid = new Set(await this.daemon.queryValidPaths(paths));
    const wanted = paths.filter((path) => !valid.has(path) || this.guest.store.sharesAnyOf([path]));
    if (wanted.length > 0) await this.#provision(await this.#options.host.lookUp(wanted), 'keep');
  }

  async #provision(inputs: Inputs, onConflict: 'throw' | 'keep'): Promise<Provisioned> {
    if (inputs.infos.size === 0) return NOTHING_PROVISIONED;
    const { context, host } = this.#options;
    const { store, id } = this.guest;
    const signal = this.#over.signal;
    const startedAt = context.clock.now();
    const provisioning = store.provision(inputs, host.store, this.daemon, {
      onConflict,
      signal,
    });
    // Another session may come first, and a guest that hangs never answers. The lease waits for neither.
    const done = await unlessAborted(signal, provisioning);
    const durationMs = context.clock.now() - startedAt;
    context.events.emit({ type: 'provisioned', guest: id, durationMs, ...done });
    return done;
  }

  /** Closes the connection, so that whatever waits for the guest fails. */
  readonly giveUp = (): void => {
    const { lost } = this.guest;
    this.#over.abort(lost.aborted ? lost.reason : this.#options.context.client.gone.reason);
    this.#daemon?.channel.destroy();
  };

  readonly #onClientGone = (): void => {
    if (this.#options.isServing()) this.giveUp();
  };

  /** Leaves the connection to another session, if that one can use it as if it were new. */
  leaveConnection(): void {
    // An upload may have left more in the daemon than paths.
    if (this.#bond === 'upload') return;
    this.guest.connections.put(this.daemon, this.#options.context.identity.domain);
    this.#daemon = undefined;
  }

  /** Returns the lease. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#detach();
    await this.lease[Symbol.asyncDispose]();
  }

  #detach(): void {
    this.#options.context.client.gone.removeEventListener('abort', this.#onClientGone);
    this.guest.lost.removeEventListener('abort', this.giveUp);
    this.#daemon?.channel.destroy();
  }

  async #connect(version: ProtocolVersion): Promise<WorkerClient> {
    const { id } = this.guest;
    const daemon = await this.#greet(version);
    if (formatVersion(daemon.version) === formatVersion(version)) return daemon;
    daemon.channel.destroy();
    throw new DroverError(
      'GUEST_VERSION',
      `The guest ${id} speaks protocol ${formatVersion(daemon.version)}, but its image's manifest promised ${formatVersion(version)}`,
      { hint: 'Build the image again: its Nix and its manifest belong together.' },
    );
  }

  /** @throws DroverError `GUEST_GONE` if the daemon does not answer in time */
  async #greet(version: ProtocolVersion): Promise<WorkerClient> {
    const { id } = this.guest;
    const timeout = new AbortController();
    const { handshakes } = this.guest;
    const cancel = handshakes.watch(this.#options.context.clock, (seconds) => {
      const late = `The nix-daemon of the guest ${id} has not answered for ${seconds} s`;
      timeout.abort(new DroverError('GUEST_GONE', late, { context: { guest: id } }));
    });
    const over = AbortSignal.any([this.#over.signal, timeout.signal]);
    try {
      const stream = await unlessAborted(over, this.guest.openDaemon(), (late) => late.destroy());
      const connecting = WorkerClient.connect(stream, version, `The nix-daemon of the guest ${id}`);
      const daemon = await unlessAborted(over, connecting).catch((error: unknown) => {
        stream.destroy();
        throw error;
      });
      handshakes.noteCompleted();
      return daemon;
    } finally {
      cancel();
    }
  }
}
