import type { CancelTimer, Clock } from '../lib/clock.js';
import type { PathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import type { HostConnection } from './host-connection.js';
import type { WorkerClient } from '../daemon/worker-client.js';

/** A connection is given to sessions that begin within this time, in milliseconds: so its pins end soon after theirs. */
const SHARE_MS = 10_000;
/** How long one is kept after its last session, in milliseconds: the builds of a graph come one after another. */
const LINGER_MS = 250;
/** How long a connection that nobody has used yet is kept for the next session, in milliseconds. */
const SPARE_MS = 60_000;

interface Shared {
  readonly client: Promise<WorkerClient>;
  readonly openedAt: number;
  /** What is pinned by this connection: it can neither go nor change, so it need not be asked for again. */
  readonly pinned: Set<StorePath>;
  readonly infos: Map<StorePath, PathInfo>;
  users: number;
  cancelEnd: CancelTimer;
}

/** A connection that has never been used: no pin is on it, and nothing is known from it. */
interface Spare {
  readonly client: Promise<WorkerClient>;
  readonly cancelExpiry: CancelTimer;
}

/**
 * Lets sessions that overlap use one connection, where each connection is a process that has to be started. What takes
 * long, a NAR or a substitution, gets a connection of its own. When the last session has ended, a fresh connection is
 * made for the next one, since that takes as long as a small build.
 */
export class SharedConnections {
  readonly #connect: () => Promise<WorkerClient>;
  readonly #clock: Clock;
  #current: Shared | undefined;
  #spare: Spare | undefined;
  #closed = false;

  constructor(connect: () => Promise<WorkerClient>, clock: Clock) {
    this.#connect = connect;
    this.#clock = clock;
  }

  async use(): Promise<HostConnection> {
    const shared = this.#take();
    shared.users += 1;
    shared.cancelEnd();
    try {
      const client = await shared.client;
      if (client.gone.aborted) throw new Error('the connection has just ended');
      return this.#handle(client, shared);
    } catch {
      if (this.#current === shared) this.#current = undefined;
      this.#release(shared);
      // Whatever is wrong with it is told by a connection of one's own.
      return await this.#connect();
    }
  }

  /** Keeps no connection for later sessions any more. */
  close(): void {
    this.#closed = true;
    const spare = this.#takeSpare();
    if (spare !== undefined) end(spare);
    if (this.#current?.users !== 0) return;
    this.#current.cancelEnd();
    end(this.#current.client);
  }

  #take(): Shared {
    const now = this.#clock.now();
    if (this.#current === undefined || now - this.#current.openedAt >= SHARE_MS) {
      const client = this.#takeSpare() ?? this.#connect();
      this.#current = {
        client,
        openedAt: now,
        pinned: new Set(),
        infos: new Map(),
        users: 0,
        cancelEnd: () => undefined,
      };
    }
    return this.#current;
  }

  #handle(client: WorkerClient, shared: Shared): HostConnection {
    const connect = this.#connect;
    const { pinned, infos } = shared;
    let released = false;
    return {
      gone: client.gone,
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
      async *narFromPath(path, narSize) {
        await using own = await connect();
        yield* own.narFromPath(path, narSize);
      },
      [Symbol.asyncDispose]: () => {
        if (!released) this.#release(shared);
        released = true;
        return Promise.resolve();
      },
    };
  }

  #release(shared: Shared): void {
    shared.users -= 1;
    if (shared.users > 0) return;
    if (this.#current !== shared || this.#closed) {
      end(shared.client);
      return;
    }
    shared.cancelEnd = this.#clock.after(LINGER_MS, () => {
      end(shared.client);
      if (this.#current !== shared) return;
      this.#current = undefined;
      this.#keepSpare();
    });
  }

  #keepSpare(): void {
    if (this.#spare !== undefined) return;
    const client = this.#connect();
    const cancelExpiry = this.#clock.after(SPARE_MS, () => {
      this.#spare = undefined;
      end(client);
    });
    this.#spare = { client, cancelExpiry };
    const forget = (): void => {
      if (this.#spare?.client !== client) return;
      cancelExpiry();
      this.#spare = undefined;
    };
    client.then(({ gone }) => {
      gone.addEventListener('abort', forget, { once: true });
    }, forget);
  }

  #takeSpare(): Promise<WorkerClient> | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    spare?.cancelExpiry();
    return spare?.client;
  }
}

function end(client: Promise<WorkerClient>): void {
  client.then(
    (open) => open[Symbol.asyncDispose](),
    () => undefined,
  );
}
