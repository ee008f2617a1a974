import {
  decodeBuildResult,
  decodeKeyedBuildResult,
  writeBuildResult,
  writeKeyedBuildResult,
  type BuildResult,
  type KeyedBuildResult,
} from './build-result.js';
import { MAX_MESSAGE_BYTES } from './limits.js';
import {
  decodePathInfo,
  decodeValidPathInfo,
  writePathInfo,
  writeValidPathInfo,
  type PathInfo,
  type ValidPathInfo,
} from './path-info.js';
import { decodeOptionalStorePath, decodeStorePaths, type StorePath } from './store-path.js';
import type { ProtocolVersion } from './version.js';
import { bool, bounded, list, map, num, u64, type Decoder } from './wire.js';
import { WireWriter } from './wire-writer.js';

/*
 * The bytes after STDERR_LAST. SetOptions, AddToStoreNar and AddMultipleToStore are answered by that frame
 * alone, and NarFromPath by a bare NAR. Each response is read up to `MAX_MESSAGE_BYTES`.
 */

/** Response to IsValidPath. */
export function decodeBoolResponse(): Decoder<boolean> {
  return bool();
}

export function encodeBoolResponse(value: boolean): Buffer {
  return new WireWriter().bool(value).finish();
}

/**
 * Response to AddTempRoot, EnsurePath, AddIndirectRoot and BuildPaths: a number without meaning, always 1.
 */
export function* decodeDoneResponse(): Decoder<void> {
  yield* u64();
}

export function encodeDoneResponse(): Buffer {
  return new WireWriter().u64(1).finish();
}

/** Response to QueryValidPaths. */
export function decodeStorePathsResponse(storeDir?: string): Decoder<StorePath[]> {
  return bounded(decodeStorePaths(storeDir), MAX_MESSAGE_BYTES);
}

export function encodeStorePathsResponse(paths: readonly string[]): Buffer {
  return new WireWriter().strings(paths).finish();
}

/** Response to QueryPathInfo: nothing for a path that is not valid. */
export function decodePathInfoResponse(
  version: ProtocolVersion,
  storeDir?: string,
): Decoder<PathInfo | undefined> {
  return bounded(optionalPathInfo(version, storeDir), MAX_MESSAGE_BYTES);
}

function* optionalPathInfo(version: ProtocolVersion, storeDir?: string): Decoder<PathInfo | undefined> {
  return (yield* bool()) ? yield* decodePathInfo(version, storeDir) : undefined;
}

export function encodePathInfoResponse(info: PathInfo | undefined, version: ProtocolVersion): Buffer {
  const writer = new WireWriter().bool(info !== undefined);
  if (info !== undefined) writePathInfo(writer, info, version);
  return writer.finish();
}

/** Response to AddToStore. */
export function decodeAddToStoreResponse(
  version: ProtocolVersion,
  storeDir?: string,
): Decoder<ValidPathInfo> {
  return bounded(decodeValidPathInfo(version, storeDir), MAX_MESSAGE_BYTES);
}

export function encodeAddToStoreResponse(info: ValidPathInfo, version: ProtocolVersion): Buffer {
  const writer = new WireWriter();
  writeValidPathInfo(writer, info, version);
  return writer.finish();
}

/** Response to QueryDerivationOutputMap. An output whose path is not known yet has none. */
export function decodeOutputMapResponse(storeDir?: string): Decoder<Map<string, StorePath | undefined>> {
  return bounded(
    map(() => decodeOptionalStorePath(storeDir)),
    MAX_MESSAGE_BYTES,
  );
}

export function encodeOutputMapResponse(outputs: ReadonlyMap<string, string | undefined>): Buffer {
  const writer = new WireWriter();
  return writer.list([...outputs], ([name, path]) => writer.string(name).string(path ?? '')).finish();
}

/** Response to BuildDerivation. */
export function decodeBuildDerivationResponse(
  version: ProtocolVersion,
  storeDir?: string,
): Decoder<BuildResult> {
  return bounded(decodeBuildResult(version, storeDir), MAX_MESSAGE_BYTES);
}

export function encodeBuildDerivationResponse(result: BuildResult, version: ProtocolVersion): Buffer {
  const writer = new WireWriter();
  writeBuildResult(writer, result, version);
  return writer.finish();
}

/** Response to BuildPathsWithResults. */
export function decodeBuildPathsWithResultsResponse(
  version: ProtocolVersion,
  storeDir?: string,
): Decoder<KeyedBuildResult[]> {
  return bounded(
    list(() => decodeKeyedBuildResult(version, storeDir)),
    MAX_MESSAGE_BYTES,
  );
}

export function encodeBuildPathsWithResultsResponse(
  results: readonly KeyedBuildResult[],
  version: ProtocolVersion,
): Buffer {
  const writer = new WireWriter().u64(results.length);
  for (const result of results) writeKeyedBuildResult(writer, result, version);
  return writer.finish();
}

/** Response to QueryMissing. Sizes are in bytes: of the download, and of what it unpacks to. */
export interface Missing {
  readonly willBuild: readonly StorePath[];
  readonly willSubstitute: readonly StorePath[];
  readonly unknown: readonly StorePath[];
  readonly downloadSize: number;
  readonly narSize: number;
}

export function decodeQueryMissingResponse(storeDir?: string): Decoder<Missing> {
  return bounded(missing(storeDir), MAX_MESSAGE_BYTES);
}

function* missing(storeDir?: string): Decoder<Missing> {
  return {
    willBuild: yield* decodeStorePaths(storeDir),
    willSubstitute: yield* decodeStorePaths(storeDir),
    unknown: yield* decodeStorePaths(storeDir),
    downloadSize: yield* num(),
    narSize: yield* num(),
  };
}

export function encodeQueryMissingResponse(value: Missing): Buffer {
  const writer = new WireWriter()
    .strings(value.willBuild)
    .strings(value.willSubstitute)
    .strings(value.unknown);
  return writer.u64(value.downloadSize).u64(value.narSize).finish();
}
