import * as operations from '../../../src/protocol/operations.js';
import * as responses from '../../../src/protocol/responses.js';
import * as uploads from '../../../src/protocol/data-requests.js';
import type { ProtocolVersion } from '../../../src/protocol/version.js';
import type { Decoder } from '../../../src/protocol/wire.js';
import * as made from './arbitraries.js';
import fc from '../../support/property.js';

const { Op } = operations;

/** One message: how to make one up, write it and read it. Requests are written with their code, and read without. */
export interface Message<T> {
  readonly name: string;
  readonly op?: number;
  readonly values: (version: ProtocolVersion) => fc.Arbitrary<T>;
  readonly encode: (value: T, version: ProtocolVersion) => Buffer;
  readonly decode: (version: ProtocolVersion) => Decoder<T>;
}

export type Checked = (check: <T>(message: Message<T>) => void) => void;

function message<T>(one: Message<T>): [string, Checked] {
  return [
    one.name,
    (check) => {
      check(one);
    },
  ];
}

const paths = (): fc.Arbitrary<string> => made.storePath;
const build = (): fc.Arbitrary<operations.BuildPaths> =>
  fc.record({ targets: fc.array(made.derivedPath, { maxLength: 3 }), mode: made.buildMode });
const flags = fc.record({ repair: fc.boolean(), dontCheckSignatures: fc.boolean() });

/** Every request and response that the codec knows. */
export const MESSAGES: [string, Checked][] = [
  message<string>({
    name: 'IsValidPath',
    op: Op.IsValidPath,
    values: paths,
    encode: operations.encodeIsValidPath,
    decode: operations.decodeIsValidPath,
  }),
  message<string>({
    name: 'AddTempRoot',
    op: Op.AddTempRoot,
    values: paths,
    encode: operations.encodeAddTempRoot,
    decode: operations.decodeAddTempRoot,
  }),
  message<string>({
    name: 'EnsurePath',
    op: Op.EnsurePath,
    values: paths,
    encode: operations.encodeEnsurePath,
    decode: operations.decodeEnsurePath,
  }),
  message<string>({
    name: 'QueryPathInfo',
    op: Op.QueryPathInfo,
    values: paths,
    encode: operations.encodeQueryPathInfo,
    decode: operations.decodeQueryPathInfo,
  }),
  message<string>({
    name: 'NarFromPath',
    op: Op.NarFromPath,
    values: paths,
    encode: operations.encodeNarFromPath,
    decode: operations.decodeNarFromPath,
  }),
  message<string>({
    name: 'QueryDerivationOutputMap',
    op: Op.QueryDerivationOutputMap,
    values: paths,
    encode: operations.encodeQueryDerivationOutputMap,
    decode: operations.decodeQueryDerivationOutputMap,
  }),
  message({
    name: 'AddIndirectRoot',
    op: Op.AddIndirectRoot,
    values: () => made.nixString,
    encode: operations.encodeAddIndirectRoot,
    decode: operations.decodeAddIndirectRoot,
  }),
  message({
    name: 'SetOptions',
    op: Op.SetOptions,
    values: () =>
      fc.record({
        keepFailed: fc.boolean(),
        keepGoing: fc.boolean(),
        tryFallback: fc.boolean(),
        verbosity: made.int32,
        maxBuildJobs: made.int32,
        maxSilentTime: made.int32,
        verboseBuild: fc.boolean(),
        buildCores: made.int32,
        useSubstitutes: fc.boolean(),
        overrides: made.stringMap,
      }),
    encode: operations.encodeSetOptions,
    decode: operations.decodeSetOptions,
  }),
  message({
    name: 'QueryValidPaths',
    op: Op.QueryValidPaths,
    values: () => fc.record({ paths: made.storePaths, substitute: fc.boolean() }),
    encode: operations.encodeQueryValidPaths,
    decode: operations.decodeQueryValidPaths,
  }),
  message({
    name: 'BuildDerivation',
    op: Op.BuildDerivation,
    values: () =>
      fc.record({ drvPath: made.storePath, derivation: made.basicDerivation, mode: made.buildMode }),
    encode: operations.encodeBuildDerivation,
    decode: operations.decodeBuildDerivation,
  }),
  message({
    name: 'BuildPaths',
    op: Op.BuildPaths,
    values: build,
    encode: operations.encodeBuildPaths,
    decode: operations.decodeBuildPaths,
  }),
  message({
    name: 'BuildPathsWithResults',
    op: Op.BuildPathsWithResults,
    values: build,
    encode: operations.encodeBuildPathsWithResults,
    decode: operations.decodeBuildPathsWithResults,
  }),
  message({
    name: 'QueryMissing',
    op: Op.QueryMissing,
    values: () => fc.array(made.derivedPath, { maxLength: 3 }),
    encode: operations.encodeQueryMissing,
    decode: operations.decodeQueryMissing,
  }),
  message({
    name: 'AddToStore',
    op: Op.AddToStore,
    values: () =>
      fc.record({
        name: made.nixString,
        method: made.nixString,
        references: made.storePaths,
        repair: fc.boolean(),
      }),
    encode: uploads.encodeAddToStore,
    decode: uploads.decodeAddToStore,
  }),
  message({
    name: 'AddToStoreNar',
    op: Op.AddToStoreNar,
    values: () => fc.tuple(made.validPathInfo, flags).map(([info, rest]) => ({ info, ...rest })),
    encode: uploads.encodeAddToStoreNar,
    decode: uploads.decodeAddToStoreNar,
  }),
  message({
    name: 'AddMultipleToStore',
    op: Op.AddMultipleToStore,
    values: () => flags,
    encode: uploads.encodeAddMultipleToStore,
    decode: uploads.decodeAddMultipleToStore,
  }),
  message({
    name: 'its count',
    values: () => made.natural,
    encode: uploads.encodePathCount,
    decode: uploads.decodePathCount,
  }),
  message({
    name: 'its path infos',
    values: () => made.validPathInfo,
    encode: uploads.encodeAddedPath,
    decode: () => uploads.decodeAddedPath(),
  }),
  message({
    name: 'a boolean response',
    values: () => fc.boolean(),
    encode: responses.encodeBoolResponse,
    decode: responses.decodeBoolResponse,
  }),
  message({
    name: 'a response without meaning',
    values: () => fc.constant(undefined),
    encode: responses.encodeDoneResponse,
    decode: responses.decodeDoneResponse as () => Decoder<undefined>,
  }),
  message<string[]>({
    name: 'a response of paths',
    values: () => made.storePaths,
    encode: responses.encodeStorePathsResponse,
    decode: () => responses.decodeStorePathsResponse(),
  }),
  message({
    name: 'the response to QueryPathInfo',
    values: () => fc.option(made.pathInfo, { nil: undefined }),
    encode: responses.encodePathInfoResponse,
    decode: responses.decodePathInfoResponse,
  }),
  message({
    name: 'the response to AddToStore',
    values: () => made.validPathInfo,
    encode: responses.encodeAddToStoreResponse,
    decode: responses.decodeAddToStoreResponse,
  }),
  message({
    name: 'the response to QueryDerivationOutputMap',
    values: () => made.outputMap,
    encode: responses.encodeOutputMapResponse,
    decode: () => responses.decodeOutputMapResponse(),
  }),
  message({
    name: 'the response to BuildPathsWithResults',
    values: (version) => fc.array(made.keyedBuildResult(version), { maxLength: 2 }),
    encode: responses.encodeBuildPathsWithResultsResponse,
    decode: (version) => withoutLegacy(responses.decodeBuildPathsWithResultsResponse(version)),
  }),
  message({
    name: 'the response to BuildDerivation',
    values: made.buildResult,
    encode: responses.encodeBuildDerivationResponse,
    decode: (version) => withoutLegacy(responses.decodeBuildDerivationResponse(version)),
  }),
  message({
    name: 'the response to QueryMissing',
    values: () =>
      fc.record({
        willBuild: made.storePaths,
        willSubstitute: made.storePaths,
        unknown: made.storePaths,
        downloadSize: made.natural,
        narSize: made.natural,
      }),
    encode: responses.encodeQueryMissingResponse,
    decode: () => responses.decodeQueryMissingResponse(),
  }),
];

/** The old form of outputs comes back with its JSON, which what is made up here does not have. */
function* withoutLegacy<T>(decoder: Decoder<T>): Decoder<T> {
  const value = yield* decoder;
  return JSON.parse(
    JSON.stringify(value, (key, field: unknown) => (key === 'legacy' ? undefined : field)),
  ) as T;
}
