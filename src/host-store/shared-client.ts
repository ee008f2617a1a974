import type { Clock } from '../lib/clock.js';
import type { HostClient } from './host-client.js';
import type { WorkerClient } from './worker-client.js';

/** A connection is given to sessions that begin within this time, in milliseconds: so its pins end soon after theirs. */
const SHARE_MS = 10_000;

interface Shared {
  readonly client: Promise<WorkerClient>;
  readonly openedAt: number;
  users: number;
}

/**
 * Lets sessions that overlap use one connection, where each connection is a process that has to be started. What takes
 * long, a NAR or a substitution, gets a connection of its own.
 */
export class SharedConnections {
  readonly #connect: () => Promise<WorkerClient>;
  readonly #clock: Clock;
  #current: Shared | undefined;

  constructor(connect: () => Promise<WorkerClient>, clock: Clock) {
    this.#connect = connect;
    this.#clock = clock;
  }

  async use(): Promise<HostClient> {
    const shared = this.#take();
    shared.users += 1;
    try {
      const client = await shared.client;
      if (client.gone.aborted) throw new Error('the connection has just ended');
      return this.#handle(client, shared);
    } catch {
      this.#release(shared);
      if (this.#current === shared) this.#current = undefined;
      // Whatever is wrong with it is told by a connection of one's own.
      return await this.#connect();
    }
  }

  #take(): Shared {
    const now = this.#clock.now();
    if (this.#current === undefined || now - this.#current.openedAt >= SHARE_MS) {
      this.#current = { client: this.#connect(), openedAt: now, users: 0 };
    }
    return this.#current;
  }

  #handle(client: WorkerClient, shared: Shared): HostClient {
    const connect = this.#connect;
    let released = false;
    return {
      gone: client.gone,
      async queryValidPaths(paths, substitute = false) {
        if (!substitute) return await client.queryValidPaths(paths);
        await using own = await connect();
        return await own.queryValidPaths(paths, true);
      },
      queryPathInfos: (paths) => client.queryPathInfos(paths),
      addTempRoots: (paths) => client.addTempRoots(paths),
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
    if (this.#current === shared) this.#current = undefined;
    shared.client.then(
      (client) => client[Symbol.asyncDispose](),
      () => undefined,
    );
  }
}
