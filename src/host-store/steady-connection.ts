import type { CancelTimer, Clock } from '../lib/clock.js';
import { DroverError, errorCode } from '../lib/errors.js';
import type { NarFacts } from '../protocol/nar-check.js';
import type { PathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import type { ProtocolVersion } from '../protocol/version.js';
import type { HostConnection, HostQueries } from './host-connection.js';

/** Times that a question is asked again after the daemon has ended in the middle of it. */
const MAX_REPEATS = 3;
/** Time between attempts to pin again while no daemon can be reached, in milliseconds. */
const RETRY_MS = 1_000;

/** Errors of an answer that ended too early. */
const CUT_CODES: ReadonlySet<string> = new Set(['NAR_TRUNCATED', 'PROTOCOL_TRUNCATED']);

export interface SteadyOptions {
  /** @throws DroverError `HOST_STORE_UNAVAILABLE` */
  readonly connect: () => Promise<HostConnection>;
  /** Ends the connection for good. */
  readonly over: AbortSignal;
  readonly clock: Clock;
}

/**
 * A session's connection to the host's store that outlives the daemon's end. Every query is idempotent, so it
 * is repeated on a new connection, where everything is pinned first.
 *
 * INVARIANT: a path that was pinned while it was valid is valid as long as answers come. If it was collected
 * while nothing pinned it, every later query fails.
 */
export class SteadyConnection implements HostQueries, AsyncDisposable {
  readonly #options: SteadyOptions;
  readonly #pinned = new Set<StorePath>();
  /** Paths that were valid after they had been pinned. */
  readonly #valid = new Set<StorePath>();
  #current: Promise<HostConnection> | undefined;
  /** Error after which nothing is answered any more. */
  #collected: DroverError | undefined;
  #ending: Promise<void> | undefined;
  #cancelRetry: CancelTimer = () => undefined;

  constructor(options: SteadyOptions) {
    this.#options = options;
    options.over.addEventListener('abort', this.#end, { once: true });
  }

  async version(): Promise<ProtocolVersion> {
    return (await this.#connected()).version;
  }

  ask: HostQueries['ask'] = async (request, response) =>
    await this.#steady((connection) => connection.ask(request, response));

  queryValidPaths: HostQueries['queryValidPaths'] = async (paths, substitute) =>
    await this.#steady((connection) => connection.queryValidPaths(paths, substitute));

  queryDerivationOutputs: HostQueries['queryDerivationOutputs'] = async (derivations) =>
    await this.#steady((connection) => connection.queryDerivationOutputs(derivations));

  async queryPathInfos(paths: readonly StorePath[]): Promise<(PathInfo | undefined)[]> {
    const infos = await this.#steady((connection) => connection.queryPathInfos(paths));
    paths.forEach((path, index) => {
      if (infos[index] !== undefined && this.#pinned.has(path)) this.#valid.add(path);
    });
    return infos;
  }

  async addTempRoots(paths: readonly StorePath[]): Promise<void> {
    await this.#steady((connection) => connection.addTempRoots(paths));
    for (const path of paths) this.#pinned.add(path);
  }

  /** A NAR that was cut goes on at the same byte. */
  async *narFromPath(path: StorePath, facts: NarFacts): AsyncGenerator<Uint8Array, void, undefined> {
    let sent = 0;
    for (let repeats = 0; ; repeats++) {
      let connection: HostConnection | undefined;
      let known = sent;
      try {
        connection = await this.#connected();
        for await (const part of connection.narFromPath(path, facts)) {
          const fresh = part.subarray(Math.min(known, part.length));
          known -= part.length - fresh.length;
          sent += fresh.length;
          if (fresh.length > 0) yield fresh;
        }
        return;
      } catch (error) {
        if (!this.#canRepeat(connection, repeats, error)) throw error;
      }
    }
  }

  /** Settles when the pins have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#options.over.removeEventListener('abort', this.#end);
    this.#end();
    await this.#ending;
  }

  async #steady<T>(ask: (connection: HostConnection) => Promise<T>): Promise<T> {
    for (let repeats = 0; ; repeats++) {
      let connection: HostConnection | undefined;
      try {
        connection = await this.#connected();
        return await ask(connection);
      } catch (error) {
        if (!this.#canRepeat(connection, repeats, error)) throw error;
      }
    }
  }

  #canRepeat(connection: HostConnection | undefined, repeats: number, error: unknown): boolean {
    if (this.#options.over.aborted || repeats >= MAX_REPEATS) return false;
    const code = errorCode(error) ?? '';
    // Once: the daemon may have ended in the handshake. It may also hang, which takes long to find out.
    if (code === 'HOST_STORE_UNAVAILABLE') return repeats === 0;
    // A NAR may have had a connection of its own.
    return code !== 'NAR_INVALID' && (connection?.gone.aborted === true || CUT_CODES.has(code));
  }

  /** Connects on first use, since a handshake of a client needs no connection, and again if the daemon has ended. */
  async #connected(): Promise<HostConnection> {
    const { over } = this.#options;
    over.throwIfAborted();
    if (this.#collected !== undefined) throw this.#collected;
    const connecting = (this.#current ??= this.#open());
    try {
      const connection = await connecting;
      if (!connection.gone.aborted) return connection;
    } catch (error) {
      this.#forget(connecting);
      throw error;
    }
    over.throwIfAborted();
    this.#forget(connecting);
    return await this.#connected();
  }

  #forget(connecting: Promise<HostConnection>): void {
    if (this.#current === connecting) this.#current = undefined;
  }

  async #open(): Promise<HostConnection> {
    const { connect, over } = this.#options;
    const connection = await connect();
    try {
      if (this.#pinned.size > 0) await this.#pinAgain(connection);
      connection.gone.addEventListener('abort', this.#onGone, { once: true });
      if (over.aborted) this.#end();
      return connection;
    } catch (error) {
      await connection[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #pinAgain(connection: HostConnection): Promise<void> {
    await connection.addTempRoots([...this.#pinned]);
    const valid = new Set(await connection.queryValidPaths([...this.#valid]));
    const lost = [...this.#valid].find((path) => !valid.has(path));
    if (lost === undefined) return;
    this.#collected = new DroverError(
      'HOST_STORE_UNAVAILABLE',
      `${lost} was collected on the host while its nix-daemon was away`,
      { hint: 'Start the build again.' },
    );
    throw this.#collected;
  }

  /** Pins again at once: a build may be running that reads what was pinned, and asks nothing for hours. */
  readonly #onGone = (): void => {
    if (this.#options.over.aborted || this.#pinned.size === 0 || this.#collected !== undefined) return;
    void this.#connected().catch(() => {
      this.#cancelRetry = this.#options.clock.after(RETRY_MS, this.#onGone);
    });
  };

  readonly #end = (): void => {
    this.#cancelRetry();
    const current = this.#current;
    this.#current = undefined;
    this.#ending ??= current?.then(
      async (connection) => {
        connection.gone.removeEventListener('abort', this.#onGone);
        await connection[Symbol.asyncDispose]();
      },
      () => undefined,
    );
  };
}
