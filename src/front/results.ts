import { DroverError } from '../lib/errors.js';
import { isSuccess, type BuildResult } from '../protocol/build-result.js';
import { MAX_MESSAGE_BYTES } from '../protocol/limits.js';
import type { PathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import type { Seat } from './seat.js';

/**
 * Maximum number of bytes of requests that a session keeps for a rebuild. A build hook sends one, of less than a
 * megabyte.
 */
const MAX_KEPT_BYTES = MAX_MESSAGE_BYTES;

/** A build that succeeded, and how to repeat it. */
export interface Rebuild {
  readonly outputs: readonly StorePath[];
  /** Size of the request, in bytes. */
  readonly bytes: number;
  /** Builds in another guest. @returns the result, or the error in place of one */
  readonly run: (seat: Seat) => Promise<BuildResult | string>;
}

/**
 * Results of a session's builds. Until the client has fetched them they are in the session's guest and nowhere else; if
 * that guest is lost, they are built again in another one, provided that the same comes out, down to the NAR hash of
 * each path that the client was told about.
 */
export class Results {
  readonly #rebuilds: Rebuild[] = [];
  #keptBytes = 0;
  /** NAR hashes that the client knows. */
  readonly #told = new Map<StorePath, string>();
  /** The client was told of something in the guest that its own builds have not made. */
  #toldOther = false;
  /** How the guest that had the results was lost. */
  #loss: string | undefined;

  /** Whether the results are lost and have not been built again. */
  get lost(): boolean {
    return this.#loss !== undefined;
  }

  /** Whether a guest that builds the results again has everything that the client was told of. */
  get restorable(): boolean {
    const own = new Set(this.#rebuilds.flatMap(({ outputs }) => outputs));
    return !this.#toldOther && [...this.#told.keys()].every((path) => own.has(path));
  }

  /** Outputs that the next guest must build. */
  get lostOutputs(): readonly StorePath[] {
    return this.lost ? this.#rebuilds.flatMap(({ outputs }) => outputs) : [];
  }

  /** @returns whether the build can be repeated: a session keeps requests up to a limit */
  add(rebuild: Rebuild): boolean {
    if (this.#rebuilds.length > 0 && this.#keptBytes + rebuild.bytes > MAX_KEPT_BYTES) return false;
    this.#keptBytes += rebuild.bytes;
    this.#rebuilds.push(rebuild);
    return true;
  }

  /**
   * Records what the client is told about a path in the guest.
   * @returns the NAR hash that the client was told first: it must not get anything else
   */
  noteTold(seat: Seat, path: StorePath, { narHash }: PathInfo): string {
    // A path that came from the host is not a result.
    if (seat.guest.store.sharesAnyOf([path])) return narHash;
    const told = this.#told.get(path) ?? narHash;
    this.#told.set(path, told);
    return told;
  }

  /** Records that the client was told that these paths are valid in the guest. */
  noteValid(paths: readonly StorePath[]): void {
    const own = new Set(this.#rebuilds.flatMap(({ outputs }) => outputs));
    if (paths.some((path) => !own.has(path))) this.#toldOther = true;
  }

  /** Records that the client was told more about the guest than that its results are there. */
  noteAnswered(): void {
    this.#toldOther = true;
  }

  /** The guest that had them is lost. */
  lose(loss: string): void {
    this.#loss = loss;
  }

  /**
   * Builds lost results again in a new guest.
   * @throws DroverError `GUEST_LOST` if something else came out, and what the builds throw
   */
  async restore(seat: Seat): Promise<void> {
    if (this.#loss === undefined) return;
    for (const rebuild of this.#rebuilds) requireSuccess(await rebuild.run(seat), this.#loss);
    await this.#requireSame(seat, this.#loss);
    seat.bind('result');
    this.#loss = undefined;
  }

  async #requireSame(seat: Seat, loss: string): Promise<void> {
    const paths = [...this.#told.keys()];
    const infos = await seat.daemon.queryPathInfos(paths);
    const other = paths.find((path, index) => infos[index]?.narHash !== this.#told.get(path));
    if (other !== undefined) throw guestLost(`${loss}; built again, ${other} came out differently`);
  }
}

/** The client has lost something that cannot be brought back. */
export function guestLost(loss: string): DroverError {
  return new DroverError('GUEST_LOST', loss, {
    hint: "Start the build again. If guests go on ending, Drover's log and their console logs may say why.",
  });
}

function requireSuccess(result: BuildResult | string, loss: string): void {
  if (typeof result !== 'string' && isSuccess(result.status)) return;
  const why = typeof result === 'string' ? result : result.errorMessage;
  throw guestLost(`${loss}; building again failed: ${why}`);
}
