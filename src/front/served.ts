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
