import type { CancelTimer, Clock } from '../lib/clock.js';
import type { PathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import type { HostConnection } from './host-connection.js';
import type { WorkerClient } from '../daemon/worker-client.js';

/**
 * Sessions that begin within this time share a connection, in milliseconds, so its pins end soon after
 * theirs.
 */
const SHARE_MS = 10_000;
/** Lifetime of an unused connection after the last session, in milliseconds. */
const SPARE_MS = 60_000;

interface Shared {
  readonly domain: string;
  readonly client: Promise<WorkerClient>;
  readonly openedAt: number;
  /**
   * Paths pinned by this connection: they can neither disappear nor change, so they are not queried again.
   */
  readonly pinned: Set<StorePath>;
  readonly infos: Map<StorePath, PathInfo>;
  users: number;
}

/** A connection that has never been used: it holds no pins and no cached answers. */
interface Spare {
  readonly client: Promise<WorkerClient>;
  cancelExpiry: CancelTimer;
}

/**
 * Lets overlapping sessions of one trust domain share a connection, since each connection is a process that has to be
 * started. Long operations, such as a NAR or a substitution, get their own. A connection ends with its last session,
 * and its pins with it: a garbage collection that follows a build finds nothing kept. A new connection is prepared for
 * the next session while this one lasts, since that takes as long as a small build.
 */
export class SharedConnections {
  readonly #connect: () => Promise<WorkerClient>;
  readonly #clock: Clock;
  /** By trust domain: what one client asks may end the connection, or leave something in it. */
  readonly #current = new Map<string, Shared>();
  #spare: Spare | undefined;
  #sessions = 0;
  #closed = false;

  constructor(connect: () => Promise<WorkerClient>, clock: Clock) {
    this.#connect = connect;
    this.#clock = clock;
  }

  async use(domain: string): Promise<HostConnection> {
    const shared = this.#take(domain);
    shared.users += 1;
    this.#sessions += 1;
    this.#spare?.cancelExpiry();
    try {
      const client = await shared.client;
      if (client.gone.aborted) throw new Error('the connection has just ended');
      this.#keepSpare();
      return this.#handle(client, shared);
    } catch {
      this.#forget(shared);
      await this.#release(shared);
      // A connection of its own reports the actual error.
      return await this.#connect();
    }
  }

  /** Stops keeping connections for later sessions. */
  close(): void {
    this.#closed = true;
    const spare = this.#takeSpare();
    if (spare !== undefined) void end(spare);
  }

  #take(domain: string): Shared {
    const now = this.#clock.now();
    const current = this.#current.get(domain);
    if (current !== undefined && now - current.openedAt < SHARE_MS) return current;
    const client = this.#takeSpare() ?? this.#connect();
    const shared = {
      domain,
      client,
      openedAt: now,
      pinned: new Set<StorePath>(),
      infos: new Map(),
      users: 0,
    };
    this.#current.set(domain, shared);
    return shared;
  }

  #forget(shared: Shared): void {
    if (this.#current.get(shared.domain) === shared) this.#current.delete(shared.domain);
  }

  #handle(client: WorkerClient, shared: Shared): HostConnection {
    const connect = this.#connect;
    const { pinned, infos } = shared;
    let released = false;
    return {
      gone: client.gone,
      version: client.version,
      ask: (request, response) => client.ask(request, response),
      async queryValidPaths(paths, substitute = false) {
        const unknown = paths.filter((path) => !infos.has(path));
        if (unknown.length === 0) return [...paths];
        const ask = async (asked: WorkerClient): Promise<ReadonlySet<StorePath>> =>
          new Set(await asked.queryValidPaths(unknown, substitute));
        await using own = substitute ? await connect() : undefined;
        const valid = await ask(own ?? client);
        return paths.filter((path) => infos.has(path) || valid.has(path));
      },
      async queryPathInfos(paths) {
        const unknown = paths.filter((path) => !infos.has(path));
        const answers = await client.queryPathInfos(unknown);
        const found = new Map(unknown.map((path, index) => [path, answers[index]]));
        for (const [path, info] of found) if (info !== undefined && pinned.has(path)) infos.set(path, info);
        return paths.map((path) => infos.get(path) ?? found.get(path));
      },
      async addTempRoots(paths) {
        const unpinned = paths.filter((path) => !pinned.has(path));
        await client.addTempRoots(unpinned);
        for (const path of unpinned) pinned.add(path);
      },
      queryDerivationOutputs: (derivations) => client.queryDerivationOutputs(derivations),
      async *narFromPath(path, facts) {
        await using own = await connect();
        yield* own.narFromPath(path, facts);
      },
      [Symbol.asyncDispose]: async () => {
        if (released) return;
        released = true;
        await this.#release(shared);
      },
    };
  }

  /** Settles when the pins have ended, if this session was the last one. */
  async #release(shared: Shared): Promise<void> {
    shared.users -= 1;
    this.#sessions -= 1;
    if (this.#sessions === 0) this.#expireSpare();
    if (shared.users > 0) return;
    this.#forget(shared);
    await end(shared.client);
  }

  #keepSpare(): void {
    if (this.#spare !== undefined || this.#closed) return;
    const client = this.#connect();
    const spare: Spare = { client, cancelExpiry: () => undefined };
    this.#spare = spare;
    const forget = (): void => {
      if (this.#spare !== spare) return;
      spare.cancelExpiry();
      this.#spare = undefined;
    };
    client.then(({ gone }) => {
      gone.addEventListener('abort', forget, { once: true });
    }, forget);
  }

  #expireSpare(): void {
    const spare = this.#spare;
    if (spare === undefined) return;
    spare.cancelExpiry = this.#clock.after(SPARE_MS, () => {
      if (this.#spare === spare) this.#spare = undefined;
      void end(spare.client);
    });
  }

  #takeSpare(): Promise<WorkerClient> | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    spare?.cancelExpiry();
    return spare?.client;
  }
}

async function end(client: Promise<WorkerClient>): Promise<void> {
  await client.then(
    (open) => open[Symbol.asyncDispose](),
    () => undefined,
  );
}
