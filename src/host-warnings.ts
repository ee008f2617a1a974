import { readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';

import type { Config } from './config/schema.js';
import { humanBytes } from './lib/human.js';

/** Facts about the host. */
export interface HostFacts {
  readonly memoryBytes: number;
  /** Content of /proc/self/mountinfo; empty where there is none. */
  readonly mounts: string;
}

export async function hostFacts(): Promise<HostFacts> {
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  return { memoryBytes: totalmem(), mounts };
}

/** Parts of a configuration that exceed this host, one sentence each. */
export function hostWarnings(config: Config, driver: string, host: HostFacts): string[] {
  const { pool, guest, stateDir } = config;
  const scratch = guest.scratch === 'memory' ? guest.scratchSizeBytes : 0;
  const inMemory = driver === 'namespace' ? scratch : guest.memoryBytes;
  const key = driver === 'namespace' ? 'guest.scratchSize' : 'guest.memory';
  const bytes = pool.maxGuests * (inMemory ?? 0);
  const noexec = driver === 'namespace' ? noexecMount(stateDir, host.mounts) : undefined;
  return [
    ...(bytes <= host.memoryBytes
      ? []
      : [
          `pool.maxGuests × ${key} is ${humanBytes(bytes)} of memory, and this host has ${humanBytes(host.memoryBytes)}: lower one of them`,
        ]),
    ...(noexec === undefined
      ? []
      : [
          `stateDir ${stateDir} is on ${noexec}, which is mounted noexec: guests run programs from there; choose another stateDir`,
        ]),
  ];
}

/** The mount point that `path` is on, if no program may be run from it. */
function noexecMount(path: string, mounts: string): string | undefined {
  let found = { point: '', options: '' };
  for (const line of mounts.split('\n')) {
    const [, , , , point = '', options = ''] = line.split(' ');
    const holds = point === '/' || path === point || path.startsWith(`${point}/`);
    // The later of two mounts on the same point is visible.
    if (point !== '' && holds && point.length >= found.point.length) found = { point, options };
  }
  return found.options.split(',').includes('noexec') ? found.point : undefined;
}
