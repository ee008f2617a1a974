import { WorkerClient } from '../daemon/worker-client.js';
import { DroverError } from '../lib/errors.js';
import type { Lease } from '../pool/lease.js';
import type { Channel } from '../daemon/channel.js';
import { formatVersion, type ProtocolVersion } from '../protocol/version.js';
import { unlessAborted } from './abortable.js';

/**
 * A session's lease, and what hangs on it: the connections to the guest, and the reasons to give it up.
 *
 * INVARIANT: when the guest is gone, or the client in the middle of a request, every connection is closed and no new one
 * is opened.
 */
export class HeldLease implements AsyncDisposable {
  readonly lease: Lease;
  readonly #gone: AbortSignal;
  readonly #isServing: () => boolean;
  readonly #over = new AbortController();
  readonly #channels = new Set<Channel>();

  /**
   * @param gone the client is gone
   * @param isServing whether one of its requests is being served
   */
  constructor(lease: Lease, gone: AbortSignal, isServing: () => boolean) {
    this.lease = lease;
    this.#gone = gone;
    this.#isServing = isServing;
    const { lost } = lease.guest;
    gone.addEventListener('abort', this.#onGone, { once: true });
    lost.addEventListener('abort', this.giveUp, { once: true });
    if (gone.aborted || lost.aborted) this.giveUp();
  }

  /** Aborts when it was given up. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Closes everything, so that whatever waits for the guest fails. */
  readonly giveUp = (): void => {
    const { lost } = this.lease.guest;
    this.#over.abort(lost.aborted ? lost.reason : this.#gone.reason);
    for (const channel of this.#channels) channel.destroy();
  };

  readonly #onGone = (): void => {
    if (this.#isServing()) this.giveUp();
  };

  /** A connection that an earlier session has left, if there is one. */
  takeConnection(version: ProtocolVersion): WorkerClient | undefined {
    const guest = this.lease.guest.connections.take(version);
    if (guest !== undefined) this.#channels.add(guest.channel);
    return guest;
  }

  /** Leaves a connection to the next session. */
  leaveConnection(guest: WorkerClient): void {
    this.#channels.delete(guest.channel);
    this.lease.guest.connections.put(guest);
  }

  /** @throws DroverError `GUEST_VERSION`, or why the guest cannot be reached */
  async connect(version: ProtocolVersion): Promise<WorkerClient> {
    const leased = this.lease.guest;
    const stream = await unlessAborted(this.over, leased.openDaemon(), (late) => late.destroy());
    const connecting = WorkerClient.connect(stream, version, `The nix-daemon of the guest ${leased.id}`);
    const guest = await unlessAborted(this.over, connecting).catch((error: unknown) => {
      stream.destroy();
      throw error;
    });
    this.#channels.add(guest.channel);
    if (formatVersion(guest.version) === formatVersion(version)) return guest;
    guest.channel.destroy();
    throw new DroverError(
      'GUEST_VERSION',
      `The guest ${leased.id} speaks protocol ${formatVersion(guest.version)}, but its image's manifest promised ${formatVersion(version)}`,
      { hint: 'Make the image anew: its Nix and its manifest belong together.' },
    );
  }

  /** Returns the lease. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#gone.removeEventListener('abort', this.#onGone);
    this.lease.guest.lost.removeEventListener('abort', this.giveUp);
    await this.lease[Symbol.asyncDispose]();
  }
}
