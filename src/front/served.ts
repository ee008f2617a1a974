import { DroverError } from '../lib/errors.js';
import { printable } from '../lib/printable.js';

/**
 * The error for a derivation whose system is not built here.
 * @param systems the supported ones
 * @returns undefined if the system is one of them
 */
export function refusal(platform: string, systems: readonly string[]): string | undefined {
  if (platform === 'builtin' || systems.includes(platform)) return undefined;
  return (
    `drover: this derivation is for ${printable(platform)}, and guests here build ${systems.join(', ')}\n` +
    'Take the system out of the machines file, or add a builder for it.'
  );
}

/**
 * Operations by code that would take from a guest, or copy into it, what it shares with the host and other builds count
 * on.
 */
const REFUSED: ReadonlyMap<number, string> = new Map([
  [20, 'collect garbage'],
  [34, 'optimise the store'],
]);

/** @throws DroverError `OPERATION_REFUSED` */
export function requireServed(op: number): void {
  const what = REFUSED.get(op);
  if (what === undefined) return;
  throw new DroverError(
    'OPERATION_REFUSED',
    `guests do not ${what}: their store is the host's, and what is their own goes with them`,
    { hint: `To ${what} on the host, run the same there without --store.` },
  );
}
