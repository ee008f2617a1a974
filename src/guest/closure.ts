import type { HostQueries } from '../host-store/host-connection.js';
import type { PathInfo, ValidPathInfo } from '../protocol/path-info.js';
import type { StorePath } from '../protocol/store-path.js';
import { inTurns, slicesOf, Turns } from '../lib/turns.js';

/** Paths that are looked up together: with more, what is done with each answer would keep the event loop. */
const PATHS_LOOKED_UP = 500;

/** Path infos by path. */
export type PathInfos = ReadonlyMap<StorePath, PathInfo>;

/**
 * Metadata of `roots` and of all their references, from the host's store. Each path is first pinned against
 * the host's garbage collector, for as long as `host` stays connected. Roots that are not valid there are
 * left out.
 */
export async function queryClosure(host: HostQueries, roots: Iterable<StorePath>): Promise<PathInfos> {
  const infos = new Map<StorePath, PathInfo>();
  const seen = new Set<StorePath>(roots);
  for (let level = [...seen]; level.length > 0;) {
    const next: StorePath[] = [];
    for (const slice of slicesOf(level, PATHS_LOOKED_UP)) {
      await host.addTempRoots(slice);
      const answers = await host.queryPathInfos(slice);
      await inTurns(slice, (path, index) => {
        const info = answers[index];
        if (info === undefined) return;
        infos.set(path, info);
        for (const reference of info.references) {
          if (seen.has(reference)) continue;
          seen.add(reference);
          next.push(reference);
        }
      });
    }
    level = next;
  }
  return infos;
}

/**
 * Paths in an order in which each comes after those it refers to, references outside of `infos` ignored.
 * The store has no cycles but of a path with itself.
 */
export async function inReferenceOrder(infos: PathInfos): Promise<ValidPathInfo[]> {
  const ordered: ValidPathInfo[] = [];
  const visited = new Set<StorePath>();
  const turns = new Turns();
  for (const root of infos.keys()) {
    // Iterative: a chain of references may be longer than the stack is deep.
    const stack: { path: StorePath; next: number }[] = [{ path: root, next: 0 }];
    while (stack.length > 0) {
      const pause = turns.next();
      if (pause !== undefined) await pause;
      const top = stack[stack.length - 1];
      if (top === undefined) break;
      const info = infos.get(top.path);
      if (top.next === 0 && (info === undefined || visited.has(top.path))) {
        stack.pop();
        continue;
      }
      visited.add(top.path);
      const reference = info?.references[top.next++];
      if (reference !== undefined) {
        stack.push({ path: reference, next: 0 });
      } else {
        if (info !== undefined) ordered.push({ path: top.path, ...info });
        stack.pop();
      }
    }
  }
  return ordered;
}
