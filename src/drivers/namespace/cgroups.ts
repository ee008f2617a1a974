import { readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { basename, dirname, join } from 'node:path';

import type { GuestMemory } from '../../guest/driver.js';
import { errorMessage } from '../../lib/errors.js';

export interface CgroupLimits {
  readonly memoryBytes: number;
  /** Swap beyond that: what builds have written is in memory, and may be swapped out. */
  readonly swapBytes: number;
  readonly pids: number;
}

/** Share of the disk's time that guests get where others want it, too; the default of a cgroup is 100. */
const IO_WEIGHT = 50;
/** Part of the host's memory that all guests together can have. */
const GUESTS_SHARE = 0.9;
const GIB_BYTES = 1024 ** 3;
const MAX_DEFAULT_SCRATCH_BYTES = 20 * GIB_BYTES;
/** Controllers of cgroup v1 that have a hierarchy to use. */
const V1_USED = { memory: true, pids: true, blkio: true };
const PROBE_LIMITS: CgroupLimits = { memoryBytes: GIB_BYTES, swapBytes: 0, pids: 100 };
/** In cgroup v2 only leaves have processes, so the supervisor moves into one beside its guests'. */
const OWN_LEAF = 'drover-supervisor';

/** One hierarchy of cgroups, in which this process is. */
interface Hierarchy {
  readonly version: 1 | 2;
  readonly controllers: readonly string[];
  /** This process's cgroup. */
  readonly own: string;
}

/** Files by their meaning, for each version. */
const FILES = {
  1: {
    memory: 'memory.limit_in_bytes',
    swap: 'memory.memsw.limit_in_bytes',
    io: 'blkio.bfq.weight',
    kills: 'memory.oom_control',
    used: 'memory.usage_in_bytes',
    peak: 'memory.max_usage_in_bytes',
  },
  2: {
    memory: 'memory.max',
    swap: 'memory.swap.max',
    io: 'io.weight',
    kills: 'memory.events',
    used: 'memory.current',
    peak: 'memory.peak',
  },
} as const;

/** @param proc directory of this process in /proc */
async function hierarchies(proc: string): Promise<Hierarchy[]> {
  const memberships = Array.from(
    (await readFile(join(proc, 'cgroup'), 'utf8')).matchAll(/^\d+:([^:]*):(.*)$/gm),
    ([, controllers = '', path = '']) => [controllers, path] as const,
  );
  // One of each: a hierarchy may be mounted in other places, too, where it stays no longer than its owner wants.
  const found = new Map<string, Hierarchy>();
  for (const line of (await readFile(join(proc, 'mountinfo'), 'utf8')).split('\n')) {
    const [, root = '', mountPoint = '', type = '', options = ''] =
      /^\d+ \d+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)$/.exec(line) ?? [];
    if (type === '') continue;
    const version = type === 'cgroup2' ? 2 : 1;
    for (const [names, path] of memberships) {
      const controllers = names.split(',').filter((name) => name !== '');
      const matches =
        version === 2
          ? names === ''
          : controllers.length > 0 && controllers.every((name) => options.split(',').includes(name));
      if (!matches || (root !== '/' && !`${path}/`.startsWith(`${root}/`))) continue;
      const own = join(mountPoint, root === '/' ? path : path.slice(root.length));
      if (found.has(names) && !own.startsWith('/sys/')) continue;
      found.set(names, {
        version,
        own,
        controllers: version === 2 ? words(text(join(own, 'cgroup.controllers'))) : controllers,
      });
    }
  }
  return [...found.values()];
}

const words = (line: string): string[] => line.split(/\s+/).filter((word) => word !== '');

/** A file of the kernel, which takes microseconds: less than a turn of the event loop. Empty if it cannot be read. */
function text(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** Memory that this process and its children can have, in bytes: the host's, or less if its cgroup says so. */
export async function availableMemory(proc = '/proc/self'): Promise<number> {
  const limits = [totalmem()];
  for (const { version, own, controllers } of await hierarchies(proc).catch(() => [])) {
    if (!controllers.includes('memory')) continue;
    for (let directory = own; directory !== '/'; directory = dirname(directory)) {
      const limit = Number(text(join(directory, FILES[version].memory)).trim() || NaN);
      if (Number.isFinite(limit)) limits.push(limit);
    }
  }
  return Math.min(...limits);
}

/** With less room than this in memory, a guest's scratch is better on disk, in bytes. */
const MIN_MEMORY_SCRATCH_BYTES = 1024 ** 3;

/** Sizes of a guest that the configuration leaves open, so that `maxGuests` of them fit this host. */
export function fittingSizes(
  availableBytes: number,
  maxGuests: number,
  wanted: {
    readonly memoryBytes: number | undefined;
    readonly scratchSizeBytes: number | undefined;
    readonly scratch: 'auto' | 'memory' | 'disk';
  },
  mayUseDisk: boolean,
): { readonly memoryBytes: number; readonly scratchSizeBytes: number; readonly onDisk: boolean } {
  const memoryBytes = Math.min(
    wanted.memoryBytes ?? Math.floor((availableBytes * GUESTS_SHARE) / maxGuests),
    Math.floor(availableBytes * GUESTS_SHARE),
  );
  const inMemoryBytes = Math.min(
    MAX_DEFAULT_SCRATCH_BYTES,
    Math.floor(availableBytes / 2 / maxGuests),
    Math.floor(memoryBytes / 2),
  );
  const isShort = inMemoryBytes < (wanted.scratchSizeBytes ?? MIN_MEMORY_SCRATCH_BYTES);
  const onDisk = wanted.scratch === 'disk' || (wanted.scratch === 'auto' && isShort && mayUseDisk);
  const scratchSizeBytes = wanted.scratchSizeBytes ?? (onDisk ? MAX_DEFAULT_SCRATCH_BYTES : inMemoryBytes);
  return { memoryBytes, scratchSizeBytes, onDisk };
}

interface Parent {
  readonly version: 1 | 2;
  readonly controllers: readonly string[];
  /** Guests' cgroups are made here. */
  readonly path: string;
}

/** The cgroups of the guests of this supervisor. */
export class Cgroups {
  readonly #parents: readonly Parent[];
  readonly #pid: number;

  private constructor(parents: readonly Parent[], pid: number) {
    this.#parents = parents;
    this.#pid = pid;
  }

  /** @returns why there can be none, in words */
  static async find(proc = '/proc/self', pid = process.pid): Promise<Cgroups | string> {
    try {
      const all = await hierarchies(proc);
      const unified = all.find(({ version, controllers }) => version === 2 && controllers.includes('memory'));
      const parents =
        unified === undefined
          ? all
              // Nix in guests uses cgroup v2 even without controllers.
              .filter(
                ({ version, controllers }) => version === 2 || controllers.some((name) => name in V1_USED),
              )
              .map(({ own, ...rest }) => ({ ...rest, path: own }))
          : [await divide(unified, pid)];
      if (!parents.some(({ controllers }) => controllers.includes('memory')))
        return 'this host has no cgroups that limit memory';
      const cgroups = new Cgroups(parents, pid);
      await (await cgroups.make('probe', PROBE_LIMITS)).remove();
      return cgroups;
    } catch (error) {
      return errorMessage(error);
    }
  }

  /** Makes those of a guest. */
  async make(id: string, limits: CgroupLimits): Promise<GuestCgroup> {
    const directories: string[] = [];
    let memory: Pick<Parent, 'version' | 'path'> | undefined;
    for (const { version, controllers, path: parent } of this.#parents) {
      const path = join(parent, `drover-${this.#pid}-${id}`);
      await mkdir(path, { recursive: true });
      directories.push(path);
      const files = FILES[version];
      const write = async (file: string, value: number): Promise<void> => {
        await writeFile(join(path, file), String(value));
      };
      if (controllers.includes('memory')) {
        memory = { version, path };
        await write(files.memory, limits.memoryBytes);
        // Absent where the kernel does not account for swap.
        const swapBytes = limits.swapBytes + (version === 1 ? limits.memoryBytes : 0);
        await write(files.swap, swapBytes).catch(() => undefined);
      }
      if (controllers.includes('pids')) await write('pids.max', limits.pids);
      // Absent where the scheduler of the disks does not use it.
      if (controllers.some((name) => name === 'io' || name === 'blkio'))
        await write(files.io, IO_WEIGHT).catch(() => undefined);
    }
    return new GuestCgroup(directories, memory, limits.memoryBytes);
  }

  /** Removes those of supervisors that were killed. */
  async reap(): Promise<void> {
    for (const { path } of this.#parents) {
      for (const name of await readdir(path).catch(() => [])) {
        const owner = /^drover-(\d+)-/.exec(name)?.[1];
        if (owner === undefined || text(`/proc/${owner}/stat`) !== '') continue;
        await rmdir(join(path, name)).catch(() => undefined);
      }
    }
  }
}

/**
 * Hands controllers to the cgroups below one. Where that is not the root, the supervisor and its children move into a
 * leaf first. Fails if other processes are in it, as in a session of a user.
 */
async function divide({ own, controllers }: Hierarchy, pid: number): Promise<Parent> {
  const path = basename(own) === OWN_LEAF ? dirname(own) : own;
  const isRoot = text(join(own, 'cgroup.type')) === '';
  if (path === own && !isRoot) {
    await mkdir(join(own, OWN_LEAF), { recursive: true });
    for (const other of words(text(join(own, 'cgroup.procs')))) {
      if (descendsFrom(Number(other), pid))
        await writeFile(join(own, OWN_LEAF, 'cgroup.procs'), other).catch(() => undefined);
    }
  }
  const usable = ['memory', 'pids', 'io'].filter((name) => controllers.includes(name));
  await writeFile(join(path, 'cgroup.subtree_control'), usable.map((name) => `+${name}`).join(' '));
  return { version: 2, controllers: usable, path };
}

function descendsFrom(pid: number, ancestor: number): boolean {
  for (let at = pid; at > 1;) {
    if (at === ancestor) return true;
    at = Number(/^PPid:\t(\d+)/m.exec(text(`/proc/${at}/status`))?.[1] ?? 0);
  }
  return false;
}

/** Those of one guest: one in each hierarchy. */
export class GuestCgroup {
  readonly directories: readonly string[];
  readonly #memory: Pick<Parent, 'version' | 'path'> | undefined;
  readonly #limitBytes: number;

  constructor(
    directories: readonly string[],
    memory: Pick<Parent, 'version' | 'path'> | undefined,
    limitBytes: number,
  ) {
    this.directories = directories;
    this.#memory = memory;
    this.#limitBytes = limitBytes;
  }

  memory(): GuestMemory | undefined {
    if (this.#memory === undefined) return undefined;
    const { version, path } = this.#memory;
    const kills = /^oom_kill (\d+)$/m.exec(text(join(path, FILES[version].kills)))?.[1];
    if (kills === undefined) return undefined;
    const bytes = (file: string): number | undefined => {
      const value = Number(text(join(path, file)).trim() || NaN);
      return Number.isFinite(value) ? value : undefined;
    };
    return {
      kills: Number(kills),
      usedBytes: bytes(FILES[version].used),
      // Linux has it since 5.19 in cgroup v2.
      peakBytes: bytes(FILES[version].peak),
      limitBytes: this.#limitBytes,
    };
  }

  /** When nothing runs in it any more. */
  async remove(): Promise<void> {
    for (const directory of this.directories) await rmdir(directory).catch(() => undefined);
  }
}
