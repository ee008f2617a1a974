import type { ValidPathInfo } from '../protocol/path-info.js';

/**
 * The text that `nix-store --load-db` reads: for each path its name, the NAR's hash in base 16, the NAR's size in
 * bytes, the deriver (or an empty line), the number of references, and the references; a line each
 * (`decodeValidPathInfo` in Nix's store-api.cc).
 */
export function formatRegistration(infos: readonly ValidPathInfo[]): string {
  return infos
    .flatMap(({ path, narHash, narSize, deriver, references }) => [
      path,
      narHash,
      narSize,
      deriver ?? '',
      references.length,
      ...references,
    ])
    .map((line) => `${line}\n`)
    .join('');
}
