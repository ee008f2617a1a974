import type { BasicDerivation } from '../protocol/basic-derivation.js';
import type { DerivedPath } from '../protocol/derived-path.js';
import {
  decodeBuildPaths,
  decodeBuildPathsWithResults,
  decodeEnsurePath,
  decodeQueryMissing,
  Op,
  type BuildPaths,
} from '../protocol/operations.js';
import { decodeRegisterDrvOutput } from '../protocol/questions.js';
import {
  decodeBuildPathsWithResultsResponse,
  decodeDoneResponse,
  decodeQueryMissingResponse,
  encodeDoneResponse,
  encodeQueryMissingResponse,
} from '../protocol/responses.js';
import type { StorePath } from '../protocol/store-path.js';
import { atLeast, type ProtocolVersion } from '../protocol/version.js';
import type { Decoder } from '../protocol/wire.js';

/** Paths that a request mentions, which must be valid in the guest before the request gets there. */
export interface Mentions {
  readonly paths: readonly StorePath[];
  /** Derivations to build: with what they are built from. */
  readonly derivations: readonly StorePath[];
  /** The client wants what is broken to be built again. */
  readonly repair?: boolean;
}

/** A request that the guest answers, whose end and whose response's end are known. */
interface ForwardedRequest {
  request(version: ProtocolVersion): Decoder<Mentions>;
  /** The response after the last log frame; undefined: nothing. */
  response(version: ProtocolVersion): Decoder<unknown> | undefined;
  /** The response where it speaks only of paths, and all of them are valid already. */
  readonly whenValid?: () => Uint8Array;
}

function* path(decoder: Decoder<StorePath>): Decoder<Mentions> {
  return { paths: [yield* decoder], derivations: [] };
}

function* targets(decoder: Decoder<readonly DerivedPath[]>): Decoder<Mentions> {
  return mentioned(yield* decoder);
}

function mentioned(all: readonly DerivedPath[]): Mentions {
  return {
    paths: all.filter(({ outputs }) => outputs === undefined).map(({ path: target }) => target),
    derivations: all.filter(({ outputs }) => outputs !== undefined).map(({ path: target }) => target),
  };
}

function* nothing(decoder: Decoder<unknown>): Decoder<Mentions> {
  yield* decoder;
  return { paths: [], derivations: [] };
}

function* build(decoder: Decoder<BuildPaths>): Decoder<Mentions> {
  const { targets: all, mode } = yield* decoder;
  return { ...mentioned(all), repair: mode === 'repair' };
}

const NOTHING_MISSING = { willBuild: [], willSubstitute: [], unknown: [], downloadSize: 0, narSize: 0 };

const FORWARDED: ReadonlyMap<number, ForwardedRequest> = new Map<number, ForwardedRequest>([
  [
    Op.EnsurePath,
    {
      request: (version) => path(decodeEnsurePath(version)),
      response: decodeDoneResponse,
      whenValid: encodeDoneResponse,
    },
  ],
  [
    Op.RegisterDrvOutput,
    { request: (version) => nothing(decodeRegisterDrvOutput(version)), response: () => undefined },
  ],
  [
    Op.QueryMissing,
    {
      request: (version) => targets(decodeQueryMissing(version)),
      response: () => decodeQueryMissingResponse(),
      whenValid: () => encodeQueryMissingResponse(NOTHING_MISSING),
    },
  ],
  [Op.BuildPaths, { request: (version) => build(decodeBuildPaths(version)), response: decodeDoneResponse }],
  [
    Op.BuildPathsWithResults,
    {
      request: (version) => build(decodeBuildPathsWithResults(version)),
      response: (version) => decodeBuildPathsWithResultsResponse(version),
    },
  ],
]);

/** How to pass this operation on, if both ends of it are known in this version. */
export function forwardedRequest(op: number, version: ProtocolVersion): ForwardedRequest | undefined {
  if (op === Op.BuildPathsWithResults && !atLeast(version, 34)) return undefined;
  return FORWARDED.get(op);
}

/** Paths of a derivation's outputs, as far as they are known before it is built. */
export function outputPaths(outputs: BasicDerivation['outputs']): StorePath[] {
  return [...outputs.values()].flatMap((output) => output.path ?? []);
}
