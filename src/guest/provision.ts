import { lstat } from 'node:fs/promises';

import type { HostQueries } from '../host-store/host-connection.js';
import type { WorkerClient } from '../daemon/worker-client.js';
import { DroverError, errorCode } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { Mutex } from '../lib/mutex.js';
import { inTurns } from '../lib/turns.js';
import type { PathInfo, ValidPathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import type { GuestAgent } from './agent.js';
import type { RunningGuest } from './driver.js';
import type { Listings } from './stored-listings.js';
import { HINT_DAMAGED, type NameInspector } from './case-hack.js';
import { inReferenceOrder, queryClosure, type PathInfos } from './closure.js';
import { formatRegistration } from './registration.js';

/** Paths whose files are looked at together. */
const PATHS_INSPECTED = 128;
/** Paths that are registered together: the text of so many is made and sent within a few milliseconds. */
const PATHS_REGISTERED = 500;

/** Result of provisioning. Bytes are those of the NARs. */
export interface Provisioned {
  readonly sharedPaths: number;
  readonly sharedBytes: number;
  readonly copiedPaths: number;
  readonly copiedBytes: number;
}

/** The inputs of a session, looked up in the host's store and pinned there. */
export interface Inputs {
  readonly infos: PathInfos;
  /** Paths whose names the guest would see wrong: to be copied. */
  readonly unshareable: ReadonlySet<StorePath>;
  /** Number of files, directories and links in each path. */
  readonly files: ReadonlyMap<StorePath, number>;
}

export interface ProvisionOptions {
  readonly onConflict?: 'throw' | 'keep';
  readonly signal?: AbortSignal;
}

/** The guest and the host's store disagree about a path: the guest must be retired. */
export class GuestConflictError extends DroverError {
  override readonly name = 'GuestConflictError';
  constructor(path: StorePath, message: string) {
    super('GUEST_CONFLICT', message, { context: { path } });
  }
}

/** Looks up what a session needs. Needs no guest, so it can go on while one boots. */
export async function lookUpInputs(
  host: HostQueries,
  roots: Iterable<StorePath>,
  caseHack: NameInspector,
): Promise<Inputs> {
  const infos = await queryClosure(host, roots);
  const unshareable = new Set<StorePath>();
  const files = new Map<StorePath, number>();
  const paths = [...infos.keys()];
  for (let start = 0; start < paths.length; start += PATHS_INSPECTED) {
    await Promise.all(
      paths.slice(start, start + PATHS_INSPECTED).map(async (path) => {
        const names = await caseHack.inspect(path);
        if (names.hacked) unshareable.add(path);
        files.set(path, names.files);
      }),
    );
  }
  return { infos, unshareable, files };
}

/**
 * The paths that Drover has put into one guest's store, and the means to add more.
 *
 * INVARIANT: `#present` holds only paths that were seen in the guest when they were entered, under the
 * identity that the host's store gave them then. One provisioning runs at a time.
 */
export class GuestStore {
  readonly #agent: GuestAgent;
  readonly #log: Log;
  readonly #mutex = new Mutex();
  readonly #present = new Map<StorePath, string>();
  readonly #shared = new Set<StorePath>();
  /** Outputs of builds in the guest, each with the trust domains that had it built. */
  readonly #built = new Map<StorePath, Set<string>>();
  readonly #rememberedFiles: number;
  readonly #listings: Listings | undefined;
  /**
   * Paths that the guest may have looked up since its cache was last dropped, and the number of files in
   * each.
   */
  readonly #lookedAt = new Map<StorePath, number>();

  constructor(
    agent: GuestAgent,
    log: Log,
    { rememberedFiles = Infinity, listings }: Pick<RunningGuest, 'rememberedFiles' | 'listings'> = {},
  ) {
    this.#agent = agent;
    this.#log = log;
    this.#rememberedFiles = rememberedFiles;
    this.#listings = listings;
  }

  /** Paths that the guest has through the shared store. */
  get sharedPaths(): number {
    return this.#shared.size;
  }

  /**
   * Whether the guest takes any of `outputs` for valid only because the host's store once had it. It would then not
   * build it: and the path may be gone since.
   */
  sharesAnyOf(outputs: Iterable<StorePath>): boolean {
    return [...outputs].some((path) => this.#shared.has(path));
  }

  /** Records that a build of this trust domain has made the outputs, or found them made by an earlier one. */
  noteBuilt(outputs: Iterable<StorePath>, domain: string): void {
    for (const path of outputs) this.#built.set(path, (this.#built.get(path) ?? new Set()).add(domain));
  }

  /** Outputs that no build of this trust domain has made here. */
  notBuiltBy(domain: string, outputs: Iterable<StorePath>): StorePath[] {
    return [...outputs].filter((path) => this.#built.get(path)?.has(domain) !== true);
  }

  /**
   * Makes the inputs valid in the guest: by sharing, or otherwise by copying.
   * @param guest a connection to the guest's daemon
   * @param options.onConflict handles a path with other contents in the guest: it is an input, or only
   *   mentioned
   * @param options.signal the session is gone: no further step is begun
   * @throws GuestConflictError if the guest has a path with other contents
   * @throws DroverError `PROVISION_FAILED`, `GUEST_AGENT_FAILED`, or what the streams throw
   */
  async provision(
    inputs: Inputs,
    host: HostQueries,
    guest: WorkerClient,
    { onConflict = 'throw', signal }: ProvisionOptions = {},
  ): Promise<Provisioned> {
    return await this.#mutex.run(async () => {
      signal?.throwIfAborted();
      await this.#makeRoom(inputs);
      const missing = await this.#missingOf(inputs.infos, guest, onConflict);
      const unshareable = this.#listings === undefined ? inputs.unshareable : new Set<StorePath>();
      let copy = new Set([...missing.keys()].filter((path) => unshareable.has(path)));
      const invisible = await this.#share(missing, copy, host, guest);
      if (invisible.size > 0) {
        this.#log.warn({ paths: invisible.size }, 'shared paths are not visible in the guest; copying them');
        copy = new Set([...copy, ...invisible]);
        const still = await this.#share(
          await this.#missingOf(inputs.infos, guest, onConflict),
          copy,
          host,
          guest,
        );
        if (still.size > 0) throw notVisible(still);
      }
      return summary(missing, copy);
    });
  }

  /** Has the guest forget what it has looked at, where these paths would become too much for it. */
  async #makeRoom({ infos, files }: Inputs): Promise<void> {
    if (this.#rememberedFiles === Infinity) return;
    const total = (counts: Iterable<number>): number => [...counts].reduce((sum, count) => sum + count, 0);
    const more = new Map([...infos.keys()].map((path) => [path, files.get(path) ?? 1]));
    const both = new Map([...this.#lookedAt, ...more]);
    if (this.#lookedAt.size > 0 && total(both.values()) > this.#rememberedFiles) {
      await this.#agent.register(await this.#registration([]), true);
      this.#lookedAt.clear();
    }
    for (const [path, count] of more) this.#lookedAt.set(path, count);
  }

  /**
   * Paths that the guest lacks or has in an older version. Paths that the guest built itself are entered as
   * present.
   */
  async #missingOf(
    infos: PathInfos,
    guest: WorkerClient,
    onConflict: 'throw' | 'keep',
  ): Promise<Map<StorePath, PathInfo>> {
    const missing = new Map<StorePath, PathInfo>();
    const unknown: StorePath[] = [];
    await inTurns(infos, ([path, info]) => {
      if (this.#present.get(path) === identity(info)) return;
      missing.set(path, info);
      if (!this.#shared.has(path)) unknown.push(path);
    });
    const builtThere = await guest.queryValidPaths(unknown);
    const theirs = await guest.queryPathInfos(builtThere);
    builtThere.forEach((path, index) => {
      const info = infos.get(path);
      if (info === undefined) return;
      if (theirs[index]?.narHash !== info.narHash && onConflict === 'throw') {
        throw new GuestConflictError(path, `The guest has other contents than the host in ${path}`);
      }
      if (theirs[index]?.narHash === info.narHash) this.#present.set(path, identity(info));
      missing.delete(path);
    });
    return missing;
  }

  /** Returns the paths that cannot be shared because the guest does not see them; then some are not present yet. */
  async #share(
    missing: ReadonlyMap<StorePath, PathInfo>,
    copy: ReadonlySet<StorePath>,
    host: HostQueries,
    guest: WorkerClient,
  ): Promise<ReadonlySet<StorePath>> {
    let batch: ValidPathInfo[] = [];
    const registerBatch = async (): Promise<ReadonlySet<StorePath>> => {
      if (batch.length === 0) return new Set();
      const invisible = (await this.#agent.register(
        await this.#registration(batch),
        batch.some(({ path }) => this.#shared.has(path)),
      )) as readonly StorePath[];
      if (invisible.length > 0) return new Set(invisible);
      for (const { path, ...info } of batch) {
        this.#present.set(path, identity(info));
        this.#shared.add(path);
      }
      batch = [];
      return new Set();
    };
    for (const info of await inReferenceOrder(missing)) {
      const shared = !copy.has(info.path);
      if (shared) batch.push(info);
      if (shared && batch.length < PATHS_REGISTERED) continue;
      const invisible = await registerBatch();
      if (invisible.size > 0) return invisible;
      if (!shared) await this.#copy(info, host, guest);
    }
    return await registerBatch();
  }

  async #registration(batch: readonly ValidPathInfo[]): Promise<string> {
    const registration = formatRegistration(batch);
    if (this.#listings === undefined) return registration;
    return `${await this.#listings.of(batch)}registration\n${registration}`;
  }

  async #copy(info: ValidPathInfo, host: HostQueries, guest: WorkerClient): Promise<void> {
    try {
      await guest.addToStoreNar(info, host.narFromPath(info.path, info));
    } catch (cause) {
      throw (await isGone(info.path)) ? notOnDisk(info.path) : notCopied(info.path, cause);
    }
    this.#present.set(info.path, identity(info));
  }
}

/** A path that was collected and came back is another one: its directory entries in the guest may be stale. */
function identity(info: PathInfo): string {
  return `${info.narHash} ${info.registrationTime}`;
}

async function isGone(path: StorePath): Promise<boolean> {
  return await lstat(path).then(
    () => false,
    (error: unknown) => errorCode(error) === 'ENOENT',
  );
}

/** Either daemon's own message about it would be misleading. */
function notOnDisk(path: StorePath): DroverError {
  return new DroverError('PROVISION_FAILED', `${path} is valid on the host, but it is not on its disk`, {
    hint: 'Something else than Nix has removed it. Run there: nix-store --verify --check-contents --repair',
    context: { path },
  });
}

function notCopied(path: StorePath, cause: unknown): DroverError {
  return new DroverError('PROVISION_FAILED', `${path} cannot be copied into the guest`, {
    cause,
    hint: HINT_DAMAGED,
    context: { path },
  });
}

function notVisible(paths: ReadonlySet<StorePath>): DroverError {
  const [path = ''] = paths;
  return new DroverError(
    'PROVISION_FAILED',
    `The guest does not see ${path}, which was registered a moment ago`,
    {
      context: { path, paths: paths.size },
    },
  );
}

function summary(missing: ReadonlyMap<StorePath, PathInfo>, copy: ReadonlySet<StorePath>): Provisioned {
  const total = { sharedPaths: 0, sharedBytes: 0, copiedPaths: 0, copiedBytes: 0 };
  for (const [path, { narSize }] of missing) {
    if (copy.has(path)) {
      total.copiedPaths += 1;
      total.copiedBytes += narSize;
    } else {
      total.sharedPaths += 1;
      total.sharedBytes += narSize;
    }
  }
  return total;
}
