import { decodeOptionalContentAddress } from './content-address.js';
import { MAX_ITEMS, MAX_MESSAGE_BYTES, MAX_SHORT_STRING_BYTES } from './limits.js';
import type { RequestDecoder } from './operations.js';
import {
  decodeDrvOutput,
  decodeJsonRealisation,
  decodeRealisation,
  decodeUnkeyedRealisation,
} from './realisation.js';
import { decodeOptionalStorePath, decodeStorePath, decodeStorePaths, type StorePath } from './store-path.js';
import { FEATURE_REALISATION_WITH_PATH, type ProtocolVersion } from './version.js';
import { bool, bounded, list, num, string, strings, type Decoder } from './wire.js';

/*
 * Requests about paths, derivers, roots and realisations, with their responses, beyond those of a build hook.
 * Except for realisations, their form is unchanged since protocol 1.22. Drover sends none of them itself, so
 * there is no encoder.
 */

/** Payload of QueryReferrers, QueryDeriver, QueryDerivationOutputs and others: one path. */
export const decodePathQuestion: RequestDecoder<StorePath> = (_version, storeDir) =>
  decodeStorePath(storeDir);

/** Payload of QuerySubstitutablePaths. */
export const decodePathsQuestion: RequestDecoder<readonly StorePath[]> = (_version, storeDir) =>
  bounded(decodeStorePaths(storeDir), MAX_MESSAGE_BYTES);

/** Payload of QueryPathFromHashPart: the digits at the front of a path's name. */
export const decodeHashPartQuestion: RequestDecoder<string> = () => string(MAX_SHORT_STRING_BYTES);

/** Payload of QuerySubstitutablePathInfos: paths, each with its content address or nothing. */
export const decodeSubstitutablePathInfosQuestion: RequestDecoder<readonly StorePath[]> = (
  _version,
  storeDir,
) =>
  bounded(
    list(function* () {
      const path = yield* decodeStorePath(storeDir);
      yield* decodeOptionalContentAddress();
      return path;
    }),
    MAX_MESSAGE_BYTES,
  );

/** Whether realisations name derivations by path, rather than by a hash in a JSON text. */
function namesPaths({ features }: ProtocolVersion): boolean {
  return features.has(FEATURE_REALISATION_WITH_PATH);
}

/** Payload of QueryRealisation. */
export const decodeRealisationQuestion: RequestDecoder<unknown> = (version, storeDir) =>
  namesPaths(version) ? decodeDrvOutput(storeDir) : string(MAX_SHORT_STRING_BYTES);

/** Payload of RegisterDrvOutput; the response is empty. */
export const decodeRegisterDrvOutput: RequestDecoder<unknown> = (version, storeDir) =>
  namesPaths(version) ? decodeRealisation(storeDir) : decodeJsonRealisation(storeDir);

/** Response to QueryRealisation: one realisation or none. */
export function* decodeRealisationResponse(version: ProtocolVersion, storeDir?: string): Decoder<unknown> {
  if (!namesPaths(version)) return (yield* list(() => decodeJsonRealisation(storeDir), 1))[0];
  return (yield* num(1)) === 0 ? undefined : yield* decodeUnkeyedRealisation(storeDir);
}

/** Response to QueryDeriver and QueryPathFromHashPart. */
export const decodeOptionalPathResponse = decodeOptionalStorePath;

/** Response to QueryDerivationOutputNames. */
export function decodeNamesResponse(): Decoder<string[]> {
  return bounded(strings(MAX_ITEMS, MAX_SHORT_STRING_BYTES), MAX_MESSAGE_BYTES);
}

/** Response to FindRoots: pairs of a link, or what else keeps a path alive, and the path. */
export function decodeRootsResponse(storeDir?: string): Decoder<unknown> {
  return bounded(
    list(function* () {
      return [yield* string(), yield* decodeStorePath(storeDir)];
    }),
    MAX_MESSAGE_BYTES,
  );
}

/** Response to QuerySubstitutablePathInfo. */
export function* decodeSubstitutableInfoResponse(storeDir?: string): Decoder<unknown> {
  return (yield* bool()) ? yield* substitutableInfo(storeDir) : undefined;
}

/** Response to QuerySubstitutablePathInfos: those that can be substituted. */
export function decodeSubstitutableInfosResponse(storeDir?: string): Decoder<unknown> {
  return bounded(
    list(function* () {
      yield* decodeStorePath(storeDir);
      yield* substitutableInfo(storeDir);
    }),
    MAX_MESSAGE_BYTES,
  );
}

function* substitutableInfo(storeDir?: string): Decoder<true> {
  yield* decodeOptionalStorePath(storeDir); // deriver
  yield* decodeStorePaths(storeDir); // references
  yield* num(); // bytes of the download
  yield* num(); // bytes of the NAR
  return true;
}

/** Payload of AddSignatures: a path, and `<key name>:<base64>` each. */
export const decodeAddSignatures: RequestDecoder<{
  readonly path: StorePath;
  readonly signatures: readonly string[];
}> = (_version, storeDir) => bounded(addSignatures(storeDir), MAX_MESSAGE_BYTES);

function* addSignatures(
  storeDir?: string,
): Decoder<{ readonly path: StorePath; readonly signatures: readonly string[] }> {
  return {
    path: yield* decodeStorePath(storeDir),
    signatures: yield* strings(MAX_ITEMS, MAX_SHORT_STRING_BYTES),
  };
}
