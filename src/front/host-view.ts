import { queryClosure } from '../guest/closure.js';
import { lookUpInputs, type Inputs } from '../guest/provision.js';
import { SteadyConnection } from '../host-store/steady-connection.js';
import type { PathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import { unlessAborted } from '../lib/abortable.js';
import type { SessionContext } from './context.js';
import type { Mentions } from './requests.js';

/**
 * The host's store as one session sees it. Paths that the session looks up stay pinned there until it ends.
 *
 * INVARIANT: when the client has gone, the connection is closed and no new one is opened.
 */
export class HostView implements AsyncDisposable {
  readonly store: SteadyConnection;
  readonly #context: SessionContext;

  constructor(context: SessionContext) {
    const { client, clock, hostStore } = context;
    this.#context = context;
    this.store = new SteadyConnection({
      over: client.gone,
      clock,
      connect: () =>
        unlessAborted(client.gone, hostStore.connect(), (late) => {
          void late[Symbol.asyncDispose]();
        }),
    });
  }

  /** Returns the paths and all that they refer to. Paths that are not valid on the host are left out. */
  async lookUp(paths: Iterable<StorePath>): Promise<Inputs> {
    const roots = [...paths];
    if (roots.length === 0) return { infos: new Map(), unshareable: new Set(), files: new Map() };
    return await lookUpInputs(this.store, roots, this.#context.caseHack);
  }

  /** Returns what the host knows about the path at this moment; undefined if it is not valid there. */
  async info(path: StorePath): Promise<PathInfo | undefined> {
    const [info] = await this.store.queryPathInfos([path]);
    return info;
  }

  /** Pins the path. @returns undefined if it is not valid on the host */
  async pathInfo(path: StorePath): Promise<PathInfo | undefined> {
    await this.store.addTempRoots([path]);
    const [info] = await this.store.queryPathInfos([path]);
    return info;
  }

  /** Whether the request is about nothing but paths that are valid on the host. */
  async suffices({ paths, derivations }: Mentions): Promise<boolean> {
    if (derivations.length > 0) return false;
    const wanted = [...new Set(paths)];
    await this.store.addTempRoots(wanted);
    return (await this.store.queryValidPaths(wanted)).length === wanted.length;
  }

  /**
   * Returns as `roots` what a build of these derivations can use of the host's store: the derivations, and the outputs
   * of everything that they are built from. `missing` are outputs that the host does not have.
   */
  async lookUpBuild(
    derivations: readonly StorePath[],
  ): Promise<{ roots: StorePath[]; missing: StorePath[] }> {
    if (derivations.length === 0) return { roots: [], missing: [] };
    const closure = [...(await queryClosure(this.store, derivations)).keys()].filter((path) =>
      path.endsWith('.drv'),
    );
    const outputs = (await this.store.queryDerivationOutputs(closure)).flatMap((map) =>
      [...map.values()].filter((path) => path !== undefined),
    );
    const valid = new Set(await this.store.queryValidPaths(outputs));
    return { roots: [...derivations, ...valid], missing: outputs.filter((path) => !valid.has(path)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]();
  }
}
