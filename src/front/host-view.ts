import { queryClosure } from '../guest/closure.js';
import { lookUpInputs, type Inputs } from '../guest/provision.js';
import type { Received } from '../daemon/channel.js';
import type { HostConnection } from '../host-store/host-connection.js';
import { encodeQueryPathInfo } from '../protocol/operations.js';
import type { PathInfo } from '../protocol/path-info.js';
import { decodePathInfoResponse } from '../protocol/responses.js';
import type { StorePath } from '../protocol/store-path.js';
import type { ProtocolVersion } from '../protocol/version.js';
import type { Decoder } from '../protocol/wire.js';
import { unlessAborted } from './abortable.js';
import type { SessionContext } from './context.js';
import type { Mentions } from './requests.js';

/**
 * The host's store as one session sees it. Paths that the session looks up stay pinned there until it ends.
 *
 * INVARIANT: when the client has gone, the connection is closed and no new one is opened.
 */
export class HostView implements AsyncDisposable {
  readonly #context: SessionContext;
  #connection: Promise<HostConnection> | undefined;

  constructor(context: SessionContext) {
    this.#context = context;
    context.client.gone.addEventListener('abort', this.#hangUp, { once: true });
  }

  /** Connects on first use, since a handshake needs no connection, and again if the daemon has ended. */
  async connection(): Promise<HostConnection> {
    const connecting = (this.#connection ??= this.#connect());
    const connection = await connecting;
    if (!connection.gone.aborted || this.#context.client.gone.aborted) return connection;
    if (this.#connection === connecting) this.#connection = this.#connect();
    return await this.connection();
  }

  /** Returns the paths and all that they refer to. Paths that are not valid on the host are left out. */
  async lookUp(paths: Iterable<StorePath>): Promise<Inputs> {
    const roots = [...paths];
    if (roots.length === 0) return { infos: new Map(), unshareable: new Set(), files: new Map() };
    return await lookUpInputs(await this.connection(), roots, this.#context.caseHack);
  }

  /**
   * Asks the host's daemon with the bytes of a client's request.
   * @throws ProtocolError `PROTOCOL_REMOTE_ERROR`
   */
  async ask<T>(
    request: readonly Uint8Array[],
    response: (version: ProtocolVersion) => Decoder<T>,
  ): Promise<Received<T>> {
    return await (await this.connection()).ask(request, response);
  }

  /** Returns what the host knows about the path at this moment; undefined if it is not valid there. */
  async info(path: StorePath): Promise<PathInfo | undefined> {
    // Not queryPathInfos: on a shared connection, that remembers what a pinned path was like.
    const { value } = await this.ask([encodeQueryPathInfo(path)], decodePathInfoResponse);
    return value;
  }

  /** Pins the path. @returns undefined if it is not valid on the host */
  async pathInfo(path: StorePath): Promise<PathInfo | undefined> {
    const connection = await this.connection();
    await connection.addTempRoots([path]);
    const [info] = await connection.queryPathInfos([path]);
    return info;
  }

  /** Whether the request is about nothing but paths that are valid on the host. */
  async suffices({ paths, derivations }: Mentions): Promise<boolean> {
    if (derivations.length > 0) return false;
    const wanted = [...new Set(paths)];
    const connection = await this.connection();
    await connection.addTempRoots(wanted);
    return (await connection.queryValidPaths(wanted)).length === wanted.length;
  }

  /**
   * Returns as `roots` what a build of these derivations can use of the host's store: the derivations, and the outputs
   * of everything that they are built from. `missing` are outputs that the host does not have.
   */
  async lookUpBuild(
    derivations: readonly StorePath[],
  ): Promise<{ roots: StorePath[]; missing: StorePath[] }> {
    if (derivations.length === 0) return { roots: [], missing: [] };
    const connection = await this.connection();
    const closure = [...(await queryClosure(connection, derivations)).keys()].filter((path) =>
      path.endsWith('.drv'),
    );
    const outputs = (await connection.queryDerivationOutputs(closure)).flatMap((map) =>
      [...map.values()].filter((path) => path !== undefined),
    );
    const valid = new Set(await connection.queryValidPaths(outputs));
    return { roots: [...derivations, ...valid], missing: outputs.filter((path) => !valid.has(path)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#context.client.gone.removeEventListener('abort', this.#hangUp);
    this.#hangUp();
    return Promise.resolve();
  }

  async #connect(): Promise<HostConnection> {
    const { client, hostStore } = this.#context;
    return await unlessAborted(client.gone, hostStore.connect(), (late) => {
      void late[Symbol.asyncDispose]();
    });
  }

  readonly #hangUp = (): void => {
    void this.#connection?.then(
      (connection) => connection[Symbol.asyncDispose](),
      () => undefined,
    );
  };
}
