import type { ImageManifest } from '../guest/driver.js';
import type { Clock } from '../lib/clock.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import type { Channel } from '../daemon/channel.js';
import { serverHandshake } from '../protocol/handshake.js';
import {
  decodeAddTempRoot,
  decodeBuildDerivation,
  decodeIsValidPath,
  decodeOp,
  decodeQueryPathInfo,
  decodeQueryValidPaths,
  decodeSetOptions,
  Op,
} from '../protocol/operations.js';
import { ProtocolError } from '../protocol/protocol-error.js';
import {
  encodeBoolResponse,
  encodeDoneResponse,
  encodePathInfoResponse,
  encodeStorePathsResponse,
} from '../protocol/responses.js';
import { encodeErrorFrame, encodeStderrFrame } from '../protocol/stderr.js';
import type { StorePath } from '../protocol/store-path.js';
import { intersectVersions, LATEST_VERSION, type ProtocolVersion } from '../protocol/version.js';
import type { Conversation } from '../protocol/wire.js';
import { Backend, type BackendOptions } from './backend.js';
import { forwardBuild, type BuildProgress } from './build.js';
import type { BuildSnapshot } from './events.js';
import { forwardNar, forwardRequest, forwardUpload, forwardUploads, type ForwardContext } from './forward.js';
import type { ClientIdentity } from './identity.js';
import { capture } from './relay.js';
import { Results } from './results.js';
import { refusal, requireServed } from './served.js';

const LAST = encodeStderrFrame({ kind: 'last' });

export interface SessionOptions extends Omit<BackendOptions, 'version' | 'gone'> {
  readonly id: number;
  readonly identity: ClientIdentity;
  readonly manifest: ImageManifest;
  /** Nix systems that are built here now. */
  readonly systems: () => readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}

export interface SessionFailure {
  readonly error: unknown;
  readonly clientLeft: boolean;
}

/**
 * One connection of a Nix client, from handshake to close.
 *
 *   answering ── an operation that needs a guest ──► leased ── an operation of unknown length ──► relaying
 *
 * While answering, everything comes from the host's store: a client may stay here for minutes, waiting for its turn to
 * upload, without holding a lease. Leased, the guest is asked first and the host's store second, and whatever an
 * operation speaks of is made valid in the guest before the guest sees it. Relaying, bytes are bytes.
 */
export class Session {
  readonly #channel: Channel;
  readonly #options: SessionOptions;
  #version: ProtocolVersion = LATEST_VERSION;
  #build:
    | (BuildProgress & { readonly derivation: string; readonly system: string; readonly startedAt: number })
    | undefined;

  #failed = false;

  constructor(channel: Channel, options: SessionOptions) {
    this.#channel = channel;
    this.#options = options;
  }

  /** The build that goes on, if one does. */
  get build(): BuildSnapshot | undefined {
    if (this.#build === undefined) return undefined;
    const { id, identity, clock } = this.#options;
    const { startedAt, derivation, system, guest, phase } = this.#build;
    return {
      session: id,
      door: identity.door,
      derivation,
      system,
      guest,
      phase,
      seconds: Math.round((clock.now() - startedAt) / 1000),
    };
  }

  /** Whether its client is to be told of an end: that of its build, or its own. */
  get hasNews(): boolean {
    return this.#failed || this.#build !== undefined;
  }

  /**
   * Serves the client until it goes. A failure is told to the client, as Nix tells it, and ends the session.
   * @returns what went wrong, if something did, and whether that was the client's leaving
   */
  async run(): Promise<SessionFailure | undefined> {
    try {
      await this.#handshake();
      await this.#serveAll();
      return undefined;
    } catch (failure) {
      this.#failed = true;
      const { interruption, gone } = this.#channel;
      const error = interruption ?? failure;
      // By now the lease has been returned: a client that does not listen holds none.
      const clientLeft = gone.aborted && interruption === undefined;
      if (!clientLeft) await this.#tell(error);
      return { error, clientLeft };
    } finally {
      this.#channel.close(this.#options.clock);
    }
  }

  async #serveAll(): Promise<void> {
    await using backend = new Backend({
      ...this.#options,
      version: this.#version,
      gone: this.#channel.gone,
    });
    const results = new Results({ ...this.#options, backend, gone: this.#channel.gone });
    const context = { client: this.#channel, backend, results, version: this.#version };
    try {
      while (await this.#channel.waitForInput()) {
        backend.begin();
        if (!(await this.#serve(await this.#receive(decodeOp()), context))) return;
        backend.end();
      }
      backend.leaveConnection();
    } catch (error) {
      throw explained(error, backend);
    }
  }

  async #handshake(): Promise<void> {
    const { manifest } = this.#options;
    const image = { ...manifest.protocol, features: new Set(manifest.protocol.features) };
    const conversation = serverHandshake({
      version: intersectVersions(LATEST_VERSION, image),
      nixVersion: manifest.nixVersion,
      trusted: true,
    });
    if (!(await this.#channel.waitForInput()))
      throw new DroverError('CLIENT_GONE', 'The client left without a word');
    ({ version: this.#version } = await this.#receive(conversation));
  }

  /** @returns whether the session goes on */
  async #serve(op: number, context: ForwardContext): Promise<boolean> {
    requireServed(op);
    const { backend, results } = context;
    switch (op) {
      case Op.SetOptions: {
        const request = await this.#capture(op, decodeSetOptions(this.#version));
        await backend.setSettings(request.raw);
        await this.#answer();
        return true;
      }
      case Op.IsValidPath: {
        const path = await this.#receive(decodeIsValidPath(this.#version));
        await this.#answer(encodeBoolResponse((await this.#validPaths([path], false, context)).length > 0));
        return true;
      }
      case Op.QueryValidPaths: {
        const { paths, substitute } = await this.#receive(decodeQueryValidPaths(this.#version));
        await this.#answer(encodeStorePathsResponse(await this.#validPaths(paths, substitute, context)));
        return true;
      }
      case Op.QueryPathInfo: {
        const path = await this.#receive(decodeQueryPathInfo(this.#version));
        const [theirs] = await results.outlive(
          async () => (await backend.guest?.queryPathInfos([path])) ?? [],
        );
        if (theirs !== undefined) results.noteTold(path, theirs);
        const [ours] = theirs === undefined ? await (await backend.host()).queryPathInfos([path]) : [];
        await this.#answer(encodePathInfoResponse(theirs ?? ours, this.#version));
        return true;
      }
      case Op.AddTempRoot: {
        const path = await this.#receive(decodeAddTempRoot(this.#version));
        await (await backend.host()).addTempRoots([path]);
        await this.#answer(encodeDoneResponse());
        return true;
      }
      case Op.BuildDerivation:
        await this.#serveBuild(op, context);
        return true;
      case Op.AddToStore:
      case Op.AddToStoreNar:
        await forwardUpload(op, context);
        return true;
      case Op.AddMultipleToStore:
        if (!(await forwardUploads(context))) await this.#answer();
        return true;
      case Op.NarFromPath:
        return await forwardNar(context);
      default:
        return await forwardRequest(op, context);
    }
  }

  /** Valid on the host or in the guest: to the client the two are one store. */
  async #validPaths(
    paths: readonly StorePath[],
    substitute: boolean,
    { backend, results }: ForwardContext,
  ): Promise<StorePath[]> {
    if (paths.length === 0) return [];
    const onHost = await (await backend.host()).queryValidPaths(paths, substitute);
    const inGuest = await results.outlive(async () => (await backend.guest?.queryValidPaths(paths)) ?? []);
    return [...new Set([...onHost, ...inGuest])].sort();
  }

  async #serveBuild(op: number, { backend, results }: ForwardContext): Promise<void> {
    const { value, raw } = await this.#capture(op, decodeBuildDerivation(this.#version));
    const { clock, events, log, systems } = this.#options;
    const { platform } = value.derivation;
    const refused = refusal(platform, systems());
    if (refused !== undefined) {
      await this.#channel.write(encodeErrorFrame(refused));
      return;
    }
    const progress = {
      derivation: value.drvPath,
      system: platform,
      startedAt: clock.now(),
      guest: null,
      phase: null,
    };
    this.#build = progress;
    try {
      await forwardBuild(value, raw, {
        client: this.#channel,
        backend,
        results,
        systems,
        clock,
        events,
        log,
        progress,
      });
    } finally {
      this.#build = undefined;
    }
  }

  async #answer(response?: Uint8Array): Promise<void> {
    await this.#channel.write(response === undefined ? LAST : Buffer.concat([LAST, response]));
  }

  async #receive<T>(conversation: Conversation<T>): Promise<T> {
    return await this.#channel.run(conversation);
  }

  /** A request with all its bytes, the operation's code included. */
  async #capture<T>(op: number, payload: Conversation<T>): Promise<{ value: T; raw: readonly Uint8Array[] }> {
    return await capture(this.#channel, op, payload);
  }

  async #tell(error: unknown): Promise<void> {
    // A client that is too old has been told so by the handshake, in a form that it understands.
    if (errorCode(error) === 'PROTOCOL_VERSION') return;
    const hint = error instanceof DroverError && error.hint !== undefined ? `\n${error.hint}` : '';
    try {
      await this.#channel.write(encodeErrorFrame(`drover: ${errorMessage(error)}${hint}`));
    } catch {
      // The client has gone meanwhile: there is nobody to tell.
    }
  }
}

/** What a broken connection means: the guest is gone. */
function explained(error: unknown, { lease }: Backend): unknown {
  if (lease?.guest.lost.aborted !== true || !(error instanceof ProtocolError)) return error;
  const reason: unknown = lease.guest.lost.reason;
  if (errorCode(reason) === 'SHUTTING_DOWN') return reason;
  return new DroverError('GUEST_LOST', errorMessage(reason), {
    cause: error,
    hint: 'Start the build again.',
    context: { guest: lease.guest.id },
  });
}
