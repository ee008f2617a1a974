/**
 * What a client is told whose derivation is for a system that is not built here.
 * @param systems that are
 * @returns undefined where it is one of them
 */
export function refusal(platform: string, systems: readonly string[]): string | undefined {
  if (platform === 'builtin' || systems.includes(platform)) return undefined;
  return (
    `drover: this derivation is for ${platform}, and guests here build ${systems.join(', ')}\n` +
    'Take the system out of the machines file, or add a builder for it.'
  );
}
