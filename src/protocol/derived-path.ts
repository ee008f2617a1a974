import { malformed, ProtocolError } from './protocol-error.js';
import { parseStorePath, type StorePath } from './store-path.js';
import { atLeast, formatVersion, type ProtocolVersion } from './version.js';
import { list, string, type Decoder } from './wire.js';

/** Target of a build or substitution: `DerivedPath` in derived-path.hh. */
export interface DerivedPath {
  /** A store path; with `outputs`, that of a derivation. */
  readonly path: StorePath;
  /**
   * Outputs on the way if the derivation is itself an output of one (dynamic derivations), otherwise empty:
   * `/nix/store/…-a.drv!out!bin` is `path` a.drv, `via` [out], `outputs` [bin].
   */
  readonly via: readonly string[];
  /** The wanted outputs, or `*` for all; absent where the path itself is wanted. */
  readonly outputs?: '*' | readonly string[];
}

/** As in Nix, an output's name is spelled like a store path's. */
const OUTPUT_NAME = /^[0-9a-zA-Z+\-._?=]{1,211}$/;

/**
 * Reads the text form, which separates outputs by `!`. Up to 1.29 a bare derivation means all of its outputs, and a
 * derivation file itself cannot be asked for (`StorePathWithOutputs` in path-with-outputs.cc).
 * @throws ProtocolError `PROTOCOL_MALFORMED`
 */
function parseDerivedPath(text: string, version: ProtocolVersion, storeDir?: string): DerivedPath {
  const [pathText = '', ...rest] = text.split('!');
  const path = parseStorePath(pathText, storeDir);
  const spec = rest.pop();
  if (spec === undefined) {
    const meansAll = !atLeast(version, 30) && path.endsWith('.drv');
    return meansAll ? { path, via: [], outputs: '*' } : { path, via: [] };
  }
  rest.forEach(checkOutputName);
  if (spec === '*') return { path, via: rest, outputs: '*' };
  const outputs = spec.split(',');
  outputs.forEach(checkOutputName);
  return { path, via: rest, outputs };
}

/**
 * The text that `parseDerivedPath` reads.
 * @throws ProtocolError `PROTOCOL_UNSUPPORTED` for what 1.29 cannot say.
 */
export function formatDerivedPath(derived: DerivedPath, version: ProtocolVersion): string {
  const { path, via, outputs } = derived;
  if (!atLeast(version, 30)) {
    if (via.length > 0 || (outputs === undefined && path.endsWith('.drv'))) {
      throw new ProtocolError(
        'PROTOCOL_UNSUPPORTED',
        `Protocol ${formatVersion(version)} cannot ask for this path`,
        {
          context: { path },
        },
      );
    }
    if (outputs === '*') return path;
  }
  if (outputs === undefined) return path;
  return [path, ...via, outputs === '*' ? '*' : outputs.join(',')].join('!');
}

export function* decodeDerivedPath(version: ProtocolVersion, storeDir?: string): Decoder<DerivedPath> {
  return parseDerivedPath(yield* string(), version, storeDir);
}

export function decodeDerivedPaths(version: ProtocolVersion, storeDir?: string): Decoder<DerivedPath[]> {
  return list(() => decodeDerivedPath(version, storeDir));
}

function checkOutputName(name: string): void {
  if (!OUTPUT_NAME.test(name))
    throw malformed('This is not the name of an output', { name: name.slice(0, 300) });
}
