import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const RESOURCES = ['cpu', 'io', 'memory'] as const;

/**
 * Reads Linux's pressure stall information: for each resource, the seconds since the boot in which some process had to
 * wait for it. Nothing on other systems, and where the kernel does not measure it.
 * @param directory `/proc/pressure`
 */
export function readPressure(directory: string): (readonly [resource: string, seconds: number])[] {
  return RESOURCES.flatMap((resource) => {
    const micros = /^some .*\btotal=(\d+)$/m.exec(textOf(join(directory, resource)))?.[1];
    return micros === undefined ? [] : [[resource, Number(micros) / 1e6] as const];
  });
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
