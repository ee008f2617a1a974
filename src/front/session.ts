import type { Channel } from '../daemon/channel.js';
import type { ImageManifest } from '../guest/driver.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import type { SharedTurns } from '../lib/shared-turns.js';
import { serverHandshake } from '../protocol/handshake.js';
import { decodeOp } from '../protocol/operations.js';
import { encodeErrorFrame } from '../protocol/stderr.js';
import { intersectVersions, LATEST_VERSION, type ProtocolVersion } from '../protocol/version.js';
import type { ClientIdentity, ClientPolicy } from './identity.js';
import type { SessionContext, Surroundings } from './context.js';
import type { BuildSnapshot } from './events.js';
import { HostView } from './host-view.js';
import type { BuildEntry } from './journal.js';
import type { RunningBuild } from './operations/context.js';
import { serveOperation } from './operations/table.js';
import { Placement } from './placement.js';
import { transition, type SessionEvent, type SessionState } from './state.js';

export interface SessionOptions extends Surroundings {
  readonly id: number;
  readonly identity: ClientIdentity;
  readonly manifest: ImageManifest;
  /** Why the session is not served: the client is told after the handshake. */
  readonly refusal: DroverError | undefined;
  /** Turns of the event loop, shared by all sessions. */
  readonly turns: SharedTurns;
}

export interface SessionFailure {
  readonly error: unknown;
  readonly clientLeft: boolean;
}

/** One connection of a Nix client, from handshake to close. Its states are in state.ts. */
export class Session {
  readonly #client: Channel;
  readonly #options: SessionOptions;
  #state: SessionState = 'greeting';
  #build: RunningBuild | undefined;
  /** The last build, which has ended, and how many bytes the client had been sent then. */
  #ended: { readonly entry: BuildEntry; readonly sentBytes: number } | undefined;
  #failed = false;

  constructor(client: Channel, options: SessionOptions) {
    this.#client = client;
    this.#options = options;
  }

  /** The running or waiting build, if there is one. */
  get build(): BuildSnapshot | undefined {
    if (this.#build === undefined) return undefined;
    const { id, identity, clock } = this.#options;
    const { entry, place, startedAt, derivation, system, guest, phase } = this.#build;
    const seconds = Math.round((clock.now() - startedAt) / 1000);
    const facts = { id: entry.id, session: id, door: identity.door, derivation, system, guest, phase };
    return { ...facts, waiting: place?.() ?? null, seconds };
  }

  /** Whether the client is still to be told of an end: its build's, or its own. */
  get hasNews(): boolean {
    return this.#failed || this.#build !== undefined;
  }

  /**
   * Serves the client until it goes. A failure is told to the client, as Nix tells it, and ends the session.
   * @returns what went wrong, if something did, and whether that was the client's leaving
   */
  async run(): Promise<SessionFailure | undefined> {
    try {
      const version = await this.#handshake();
      this.#move('greeted');
      if (this.#options.refusal !== undefined) throw this.#options.refusal;
      await this.#serveAll(version);
      return undefined;
    } catch (failure) {
      this.#failed = true;
      const { interruption, gone } = this.#client;
      const error = interruption ?? failure;
      // By now the lease has been returned: a client that does not listen holds none.
      const clientLeft = gone.aborted && interruption === undefined;
      if (!clientLeft) await this.#tell(error);
      return { error, clientLeft };
    } finally {
      this.#leaveBuild();
      this.#move('close');
      this.#client.close(this.#options.clock);
    }
  }

  async #handshake(): Promise<ProtocolVersion> {
    const { identity, manifest, policy } = this.#options;
    const image = { ...manifest.protocol, features: new Set(manifest.protocol.features) };
    const conversation = serverHandshake({
      version: intersectVersions(LATEST_VERSION, image),
      nixVersion: manifest.nixVersion,
      trusted: toldTrust(identity, policy()),
    });
    if (!(await this.#client.waitForInput()))
      throw new DroverError('CLIENT_GONE', 'The client left before the handshake');
    const turn = this.#options.turns.next();
    if (turn !== undefined) await turn;
    return (await this.#client.run(conversation)).version;
  }

  async #serveAll(version: ProtocolVersion): Promise<void> {
    const client = this.#client;
    const noted = new Set<string>();
    const own = { client, version, move: this.#move, noted };
    const session: SessionContext = Object.assign({}, this.#options, own);
    await using host = new HostView(session);
    await using placement = new Placement(session, host);
    const context = Object.assign(session, { host, placement, track: this.#track });
    while (this.#state !== 'relaying' && (await client.waitForInput())) {
      placement.begin();
      const turn = this.#options.turns.next();
      if (turn !== undefined) await turn;
      await serveOperation(context, await client.run(decodeOp()));
      placement.end();
    }
    placement.leaveConnection();
  }

  readonly #move = (event: SessionEvent): void => {
    this.#state = transition(this.#state, event);
  };

  readonly #track = (build: RunningBuild | undefined): void => {
    this.#leaveBuild();
    if (build === undefined && this.#build !== undefined)
      this.#ended = { entry: this.#build.entry, sentBytes: this.#client.sentBytes };
    this.#build = build;
  };

  /** The client has got everything of the last build that it will. */
  #leaveBuild(): void {
    this.#ended?.entry.left(this.#client.sentBytes - this.#ended.sentBytes);
    this.#ended = undefined;
  }

  async #tell(error: unknown): Promise<void> {
    // The handshake has told a client that is too old, in a form that it understands.
    if (errorCode(error) === 'PROTOCOL_VERSION') return;
    const hint = error instanceof DroverError && error.hint !== undefined ? `\n${error.hint}` : '';
    try {
      await this.#client.write(encodeErrorFrame(`drover: ${errorMessage(error)}${hint}`));
    } catch {
      // The client has gone meanwhile.
    }
  }
}

/**
 * The rights that a client is told. If a store says "untrusted", Nix's build hook sends a build to it as the
 * closure of its derivation, which is slow, and needed only where guests are shared. A client with guests of
 * its own is told nothing, and sends the build itself.
 */
function toldTrust({ trusted }: ClientIdentity, { confined }: ClientPolicy): boolean | undefined {
  if (trusted) return true;
  return confined ? undefined : false;
}
