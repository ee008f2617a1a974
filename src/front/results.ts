import type { Clock } from '../lib/clock.js';
import type { Emitter } from '../lib/emitter.js';
import { DroverError } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { isSuccess, type BuildResult } from '../protocol/build-result.js';
import { MAX_MESSAGE_BYTES } from '../protocol/limits.js';
import type { PathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import type { Backend } from './backend.js';
import type { FrontEvent } from './events.js';
import { howLost, MAX_REPLAYS } from './loss.js';

/** Bytes of requests that are kept, to be sent again. A build hook sends one, of less than a megabyte. */
const MAX_KEPT_BYTES = MAX_MESSAGE_BYTES;
const ADVICE = 'Start the build again.';

export interface ResultsOptions {
  readonly backend: Backend;
  readonly clock: Clock;
  readonly events: Emitter<FrontEvent>;
  readonly log: Log;
  /** The client is gone. */
  readonly gone: AbortSignal;
}

/** Builds again, in whatever guest the session has. @returns undefined when there was no result */
export type Rebuild = () => Promise<BuildResult | undefined>;

/**
 * What a session has built, while it is in the guest and nowhere else: until the client has fetched it. If the guest is
 * lost meanwhile, it is built again in another one, and the client goes on where it was: provided that the same came
 * out, down to the hash of each path that the client has been told of.
 */
export class Results {
  readonly #options: ResultsOptions;
  readonly #rebuilds: Rebuild[] = [];
  #keptBytes = 0;
  /** NAR hashes that the client knows. */
  readonly #told = new Map<StorePath, string>();
  #losses = 0;

  constructor(options: ResultsOptions) {
    this.#options = options;
  }

  /** @param bytes of the request. @returns whether it can be built again: not beyond what is kept of one session */
  add(rebuild: Rebuild, bytes: number): boolean {
    if (this.#rebuilds.length > 0 && this.#keptBytes + bytes > MAX_KEPT_BYTES) return false;
    this.#keptBytes += bytes;
    this.#rebuilds.push(rebuild);
    return true;
  }

  /** The guest has said this of a path. */
  noteTold(path: StorePath, { narHash }: PathInfo): void {
    // What came from the host is no result.
    if (this.#options.backend.lease?.guest.store.sharesAnyOf([path]) === false) this.#told.set(path, narHash);
  }

  /**
   * Asks something of the guest, and asks again where it was lost and another one has the results now.
   * @throws what `ask` throws; DroverError `GUEST_LOST` where the results cannot be had again
   */
  async outlive<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        await this.#restore(error);
      }
    }
  }

  async #restore(cause: unknown): Promise<void> {
    const { backend, clock, gone, events, log } = this.#options;
    if (!backend.holdsResultsOnly) throw cause;
    for (let error = cause; ;) {
      if (gone.aborted) throw error;
      const guest = backend.lease?.guest.id ?? '';
      const loss = await howLost(error, backend, clock);
      if (loss === undefined) throw error;
      if (++this.#losses > MAX_REPLAYS)
        throw new DroverError('GUEST_LOST', loss, { cause: error, hint: ADVICE });
      log.warn({ guest, loss }, 'a guest was lost before its results were fetched; building them again');
      events.emit({ type: 'build-replayed', guest });
      await backend.dropGuest('lost');
      try {
        for (const rebuild of this.#rebuilds) requireSuccess(await rebuild(), loss);
        await this.#requireSame(loss);
        backend.bind('result');
        return;
      } catch (failure) {
        error = failure;
      }
    }
  }

  /** @throws DroverError `GUEST_LOST` */
  async #requireSame(loss: string): Promise<void> {
    const paths = [...this.#told.keys()];
    const infos = (await this.#options.backend.guest?.queryPathInfos(paths)) ?? [];
    const other = paths.find((path, index) => infos[index]?.narHash !== this.#told.get(path));
    if (other !== undefined)
      throw new DroverError('GUEST_LOST', `${loss}; built again, ${other} came out differently`, {
        hint: ADVICE,
      });
  }
}

function requireSuccess(result: BuildResult | undefined, loss: string): void {
  if (result !== undefined && isSuccess(result.status)) return;
  throw new DroverError(
    'GUEST_LOST',
    `${loss}; building again failed: ${result?.errorMessage ?? 'no result'}`,
    {
      hint: ADVICE,
    },
  );
}
