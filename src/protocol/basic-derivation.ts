import { MAX_SHORT_STRING_BYTES } from './limits.js';
import { decodeOptionalStorePath, decodeStorePaths, type StorePath } from './store-path.js';
import { map, string, strings, type Decoder } from './wire.js';
import type { WireWriter } from './wire-writer.js';

/** An output of a derivation. Which fields are empty tells its kind, exactly as on the wire. */
export interface DerivationOutput {
  /** Known in advance for input-addressed and fixed outputs; absent for floating, deferred and impure ones. */
  readonly path?: StorePath;
  /** `sha256`, `r:sha256`, `text:sha256` and so on for content-addressed outputs; else empty. */
  readonly hashAlgorithm: string;
  /** Hexadecimal for a fixed output, `impure` for an impure one; else empty. */
  readonly hash: string;
}

/** A derivation whose inputs are store paths only: what BuildDerivation carries (derivations.cc in Nix). */
export interface BasicDerivation {
  /** By name, in the order of the wire. */
  readonly outputs: ReadonlyMap<string, DerivationOutput>;
  readonly inputSources: readonly StorePath[];
  /** The system, such as `aarch64-linux`. */
  readonly platform: string;
  /** A path, or `builtin:…`. */
  readonly builder: string;
  readonly args: readonly string[];
  /** Structured attributes are the variable `__json`. */
  readonly env: ReadonlyMap<string, string>;
}

/** @throws ProtocolError `PROTOCOL_MALFORMED`, also for an output or a variable that comes twice. */
export function* decodeBasicDerivation(storeDir?: string): Decoder<BasicDerivation> {
  return {
    outputs: yield* map(() => decodeOutput(storeDir)),
    inputSources: yield* decodeStorePaths(storeDir),
    platform: yield* string(MAX_SHORT_STRING_BYTES),
    builder: yield* string(),
    args: yield* strings(),
    env: yield* map(() => string()),
  };
}

function* decodeOutput(storeDir?: string): Decoder<DerivationOutput> {
  const path = yield* decodeOptionalStorePath(storeDir);
  const hashAlgorithm = yield* string(MAX_SHORT_STRING_BYTES);
  const hash = yield* string(MAX_SHORT_STRING_BYTES);
  return path === undefined ? { hashAlgorithm, hash } : { path, hashAlgorithm, hash };
}

export function writeBasicDerivation(writer: WireWriter, derivation: BasicDerivation): void {
  writer.list([...derivation.outputs], ([name, output]) =>
    writer
      .string(name)
      .string(output.path ?? '')
      .string(output.hashAlgorithm)
      .string(output.hash),
  );
  writer.strings(derivation.inputSources).string(derivation.platform).string(derivation.builder);
  writer.strings(derivation.args);
  writer.list([...derivation.env], ([name, value]) => writer.string(name).string(value));
}
