import { decodeBasicDerivation, writeBasicDerivation, type BasicDerivation } from './basic-derivation.js';
import { decodeBuildMode, writeBuildMode, type BuildMode } from './build-mode.js';
import { decodeDerivedPaths, formatDerivedPath, type DerivedPath } from './derived-path.js';
import { MAX_MESSAGE_BYTES, MAX_SHORT_STRING_BYTES } from './limits.js';
import type { ProtocolVersion } from './version.js';
import { decodeStorePath, decodeStorePaths, type StorePath } from './store-path.js';
import { bool, bounded, map, string, u32, type Decoder } from './wire.js';
import { WireWriter } from './wire-writer.js';

/**
 * The operations of Nix up to 2.36 by their codes (`WorkerProto::Op` in worker-protocol.hh), obsolete ones included.
 * docs/protocol.md says what becomes of each of them.
 */
export const Op = {
  IsValidPath: 1,
  HasSubstitutes: 3,
  QueryPathHash: 4,
  QueryReferences: 5,
  QueryReferrers: 6,
  AddToStore: 7,
  AddTextToStore: 8,
  BuildPaths: 9,
  EnsurePath: 10,
  AddTempRoot: 11,
  AddIndirectRoot: 12,
  SyncWithGC: 13,
  FindRoots: 14,
  ExportPath: 16,
  QueryDeriver: 18,
  SetOptions: 19,
  CollectGarbage: 20,
  QuerySubstitutablePathInfo: 21,
  QueryDerivationOutputs: 22,
  QueryAllValidPaths: 23,
  QueryFailedPaths: 24,
  ClearFailedPaths: 25,
  QueryPathInfo: 26,
  ImportPaths: 27,
  QueryDerivationOutputNames: 28,
  QueryPathFromHashPart: 29,
  QuerySubstitutablePathInfos: 30,
  QueryValidPaths: 31,
  QuerySubstitutablePaths: 32,
  QueryValidDerivers: 33,
  OptimiseStore: 34,
  VerifyStore: 35,
  BuildDerivation: 36,
  AddSignatures: 37,
  NarFromPath: 38,
  AddToStoreNar: 39,
  QueryMissing: 40,
  QueryDerivationOutputMap: 41,
  RegisterDrvOutput: 42,
  QueryRealisation: 43,
  AddMultipleToStore: 44,
  AddBuildLog: 45,
  BuildPathsWithResults: 46,
  AddPermRoot: 47,
  SubmitOutput: 1000,
  AddToStoreScanning: 1001,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(Op).map(([name, code]) => [code, name]));

/** Name of an operation as in Nix; undefined for one that no Nix up to 2.36 has. */
export function opName(code: number): string | undefined {
  return NAMES.get(code);
}

/** Code that begins a request. It may be missing from `Op`: the end of such a request is unknown. */
export function decodeOp(): Decoder<number> {
  return u32();
}

/**
 * Decodes a request's payload after the code, up to `MAX_MESSAGE_BYTES`, in versions 1.32 to 1.38. Requests
 * with a body (AddToStore, AddToStoreNar, AddMultipleToStore) end where their frames begin.
 */
export type RequestDecoder<T> = (version: ProtocolVersion, storeDir?: string) => Decoder<T>;

const decodePathRequest: RequestDecoder<StorePath> = (_version, storeDir) => decodeStorePath(storeDir);

function encodePathRequest(op: number, path: string): Buffer {
  return new WireWriter().u64(op).string(path).finish();
}

export const decodeIsValidPath = decodePathRequest;
export const decodeAddTempRoot = decodePathRequest;
export const decodeEnsurePath = decodePathRequest;
export const decodeQueryPathInfo = decodePathRequest;
export const decodeNarFromPath = decodePathRequest;
export const decodeQueryDerivationOutputMap = decodePathRequest;

export const encodeIsValidPath = (path: string): Buffer => encodePathRequest(Op.IsValidPath, path);
export const encodeAddTempRoot = (path: string): Buffer => encodePathRequest(Op.AddTempRoot, path);
export const encodeEnsurePath = (path: string): Buffer => encodePathRequest(Op.EnsurePath, path);
export const encodeQueryPathInfo = (path: string): Buffer => encodePathRequest(Op.QueryPathInfo, path);
/** The response is a bare NAR: its end is known from the path's `narSize`. */
export const encodeNarFromPath = (path: string): Buffer => encodePathRequest(Op.NarFromPath, path);
export const encodeQueryDerivationOutputMap = (path: string): Buffer =>
  encodePathRequest(Op.QueryDerivationOutputMap, path);

/** A file outside of the store to register as a root: not a store path. */
export const decodeAddIndirectRoot: RequestDecoder<string> = () => string(MAX_SHORT_STRING_BYTES);

export function encodeAddIndirectRoot(path: string): Buffer {
  return encodePathRequest(Op.AddIndirectRoot, path);
}

/** Settings of the client. The daemon applies those that the client is trusted to change. */
export interface SetOptions {
  readonly keepFailed: boolean;
  readonly keepGoing: boolean;
  readonly tryFallback: boolean;
  /** 0 (errors only) to 7 (vomit). */
  readonly verbosity: number;
  readonly maxBuildJobs: number;
  /** Seconds; 0 is no limit. */
  readonly maxSilentTime: number;
  readonly verboseBuild: boolean;
  /** 0 is all cores. */
  readonly buildCores: number;
  readonly useSubstitutes: boolean;
  /** Every other setting that the client has overridden. */
  readonly overrides: ReadonlyMap<string, string>;
}

/** Nix encodes a boolean as one of two verbosities: the build's log is shown as an error, or as vomit. */
const VERBOSE_BUILD = 0;
const QUIET_BUILD = 7;

/** The obsolete fields are read and dropped: a request that is forwarded must be forwarded raw. */
export const decodeSetOptions: RequestDecoder<SetOptions> = () => bounded(setOptions(), MAX_MESSAGE_BYTES);

function* setOptions(): Decoder<SetOptions> {
  const keepFailed = yield* bool();
  const keepGoing = yield* bool();
  const tryFallback = yield* bool();
  const verbosity = yield* u32();
  const maxBuildJobs = yield* u32();
  const maxSilentTime = yield* u32();
  yield* u32(); // useBuildHook
  const verboseBuild = (yield* u32()) === VERBOSE_BUILD;
  yield* u32(); // logType
  yield* u32(); // printBuildTrace
  const buildCores = yield* u32();
  const useSubstitutes = yield* bool();
  const overrides = yield* map(() => string());
  return {
    keepFailed,
    keepGoing,
    tryFallback,
    verbosity,
    maxBuildJobs,
    maxSilentTime,
    verboseBuild,
    buildCores,
    useSubstitutes,
    overrides,
  };
}

export function encodeSetOptions(options: SetOptions): Buffer {
  const writer = new WireWriter().u64(Op.SetOptions);
  writer.bool(options.keepFailed).bool(options.keepGoing).bool(options.tryFallback);
  writer.u64(options.verbosity).u64(options.maxBuildJobs).u64(options.maxSilentTime);
  writer
    .bool(true)
    .u64(options.verboseBuild ? VERBOSE_BUILD : QUIET_BUILD)
    .u64(0)
    .u64(0);
  writer.u64(options.buildCores).bool(options.useSubstitutes);
  return writer.list([...options.overrides], ([name, value]) => writer.string(name).string(value)).finish();
}

/** Which of these paths are valid? With `substitute`, after trying to substitute those that are not. */
export interface QueryValidPaths {
  readonly paths: readonly StorePath[];
  readonly substitute: boolean;
}

export const decodeQueryValidPaths: RequestDecoder<QueryValidPaths> = (_version, storeDir) =>
  bounded(queryValidPaths(storeDir), MAX_MESSAGE_BYTES);

function* queryValidPaths(storeDir?: string): Decoder<QueryValidPaths> {
  return { paths: yield* decodeStorePaths(storeDir), substitute: yield* bool() };
}

export function encodeQueryValidPaths(request: {
  readonly paths: readonly string[];
  readonly substitute: boolean;
}): Buffer {
  return new WireWriter().u64(Op.QueryValidPaths).strings(request.paths).bool(request.substitute).finish();
}

/** Build this derivation, whose inputs are valid already. */
export interface BuildDerivation {
  readonly drvPath: StorePath;
  readonly derivation: BasicDerivation;
  readonly mode: BuildMode;
}

export const decodeBuildDerivation: RequestDecoder<BuildDerivation> = (_version, storeDir) =>
  bounded(buildDerivation(storeDir), MAX_MESSAGE_BYTES);

function* buildDerivation(storeDir?: string): Decoder<BuildDerivation> {
  return {
    drvPath: yield* decodeStorePath(storeDir),
    derivation: yield* decodeBasicDerivation(storeDir),
    mode: yield* decodeBuildMode(),
  };
}

export function encodeBuildDerivation(request: BuildDerivation): Buffer {
  const writer = new WireWriter().u64(Op.BuildDerivation).string(request.drvPath);
  writeBasicDerivation(writer, request.derivation);
  writeBuildMode(writer, request.mode);
  return writer.finish();
}

/** Build or substitute these. BuildPathsWithResults is the same request, from 1.34 on. */
export interface BuildPaths {
  readonly targets: readonly DerivedPath[];
  readonly mode: BuildMode;
}

export const decodeBuildPaths: RequestDecoder<BuildPaths> = (version, storeDir) =>
  bounded(buildPaths(version, storeDir), MAX_MESSAGE_BYTES);
export const decodeBuildPathsWithResults: RequestDecoder<BuildPaths> = (version, storeDir) =>
  decodeBuildPaths(version, storeDir);

function* buildPaths(version: ProtocolVersion, storeDir?: string): Decoder<BuildPaths> {
  return { targets: yield* decodeDerivedPaths(version, storeDir), mode: yield* decodeBuildMode() };
}

export function encodeBuildPaths(request: BuildPaths, version: ProtocolVersion): Buffer {
  return encodeBuild(Op.BuildPaths, request, version);
}

export function encodeBuildPathsWithResults(request: BuildPaths, version: ProtocolVersion): Buffer {
  return encodeBuild(Op.BuildPathsWithResults, request, version);
}

function encodeBuild(op: number, request: BuildPaths, version: ProtocolVersion): Buffer {
  const writer = new WireWriter().u64(op);
  writeTargets(writer, request.targets, version);
  writeBuildMode(writer, request.mode);
  return writer.finish();
}

function writeTargets(writer: WireWriter, targets: readonly DerivedPath[], version: ProtocolVersion): void {
  writer.list(targets, (target) => writer.string(formatDerivedPath(target, version)));
}

/** Asks what would have to be built or downloaded for these paths. */
export const decodeQueryMissing: RequestDecoder<DerivedPath[]> = (version, storeDir) =>
  bounded(decodeDerivedPaths(version, storeDir), MAX_MESSAGE_BYTES);

export function encodeQueryMissing(targets: readonly DerivedPath[], version: ProtocolVersion): Buffer {
  const writer = new WireWriter().u64(Op.QueryMissing);
  writeTargets(writer, targets, version);
  return writer.finish();
}
