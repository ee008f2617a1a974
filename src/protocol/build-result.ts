import { decodeDerivedPath, formatDerivedPath, type DerivedPath } from './derived-path.js';
import { MAX_SHORT_STRING_BYTES } from './limits.js';
import { malformed } from './protocol-error.js';
import {
  decodeJsonRealisation,
  decodeUnkeyedRealisation,
  outputNameOf,
  writeUnkeyedRealisation,
} from './realisation.js';
import { baseNameOf, type StorePath } from './store-path.js';
import { atLeast, FEATURE_REALISATION_WITH_PATH, type ProtocolVersion } from './version.js';
import { bool, list, num, string, u32, type Decoder } from './wire.js';
import type { WireWriter } from './wire-writer.js';

/**
 * Outcomes of a build: `buildResultStatusTable` in common-protocol.cc. The index is the number on the wire.
 */
export const BUILD_STATUSES = [
  'Built',
  'Substituted',
  'AlreadyValid',
  'PermanentFailure',
  'InputRejected',
  'OutputRejected',
  'TransientFailure',
  'CachedFailure',
  'TimedOut',
  'MiscFailure',
  'DependencyFailed',
  'LogLimitExceeded',
  'NotDeterministic',
  'ResolvesToAlreadyValid',
  'NoSubstituters',
] as const;

export type BuildStatus = (typeof BUILD_STATUSES)[number];

/** One output of a build that succeeded. */
export interface BuiltOutput {
  readonly outputName: string;
  readonly outPath: StorePath;
  /** Empty without the feature `realisation-with-path-not-hash`: they are inside `legacy.json` then. */
  readonly signatures: readonly string[];
  /** Form on the wire without that feature: written back unchanged. */
  readonly legacy?: { readonly id: string; readonly json: string };
}

/** The result of a build (`Serialise<BuildResult>` in worker-protocol.cc). */
export interface BuildResult {
  readonly status: BuildStatus;
  /** Empty for a success. */
  readonly errorMessage: string;
  /** This and the next three: 0 or false before 1.29. */
  readonly timesBuilt: number;
  readonly isNonDeterministic: boolean;
  /** Seconds since 1970; 0 when nothing was run. */
  readonly startTime: number;
  readonly stopTime: number;
  /** Absent before 1.37, and where the daemon does not measure (it does with cgroups). */
  readonly cpuUserMicros?: number;
  readonly cpuSystemMicros?: number;
  /** In the order of the wire; empty for a failure, and before 1.28. */
  readonly builtOutputs: readonly BuiltOutput[];
}

/** A result of BuildPathsWithResults. */
export interface KeyedBuildResult extends BuildResult {
  readonly path: DerivedPath;
}

/** Whether every wanted output is there now. */
export function isSuccess(status: BuildStatus): boolean {
  return SUCCESSES.has(status);
}

const SUCCESSES: ReadonlySet<BuildStatus> = new Set([
  'Built',
  'Substituted',
  'AlreadyValid',
  'ResolvesToAlreadyValid',
]);

/** @throws ProtocolError `PROTOCOL_MALFORMED` for a status that no Nix up to protocol 1.38 knows. */
export function* decodeBuildResult(version: ProtocolVersion, storeDir?: string): Decoder<BuildResult> {
  const status = yield* decodeStatus();
  const errorMessage = yield* string();
  const times = atLeast(version, 29) ? yield* decodeTimes() : NO_TIMES;
  const cpuUserMicros = atLeast(version, 37) ? yield* decodeOptionalMicros() : undefined;
  const cpuSystemMicros = atLeast(version, 37) ? yield* decodeOptionalMicros() : undefined;
  return {
    status,
    errorMessage,
    ...times,
    ...(cpuUserMicros === undefined ? {} : { cpuUserMicros }),
    ...(cpuSystemMicros === undefined ? {} : { cpuSystemMicros }),
    builtOutputs: yield* decodeBuiltOutputs(version, storeDir),
  };
}

const NO_TIMES = { timesBuilt: 0, isNonDeterministic: false, startTime: 0, stopTime: 0 };

function* decodeStatus(): Decoder<BuildStatus> {
  const wire = yield* num();
  const status = BUILD_STATUSES[wire];
  if (status === undefined) throw malformed(`${wire} is not the status of a build`);
  return status;
}

function* decodeTimes(): Decoder<typeof NO_TIMES> {
  return {
    timesBuilt: yield* u32(),
    isNonDeterministic: yield* bool(),
    startTime: yield* num(),
    stopTime: yield* num(),
  };
}

function* decodeOptionalMicros(): Decoder<number | undefined> {
  const tag = yield* num();
  if (tag > 1) throw malformed(`${tag} is not the tag of an optional value`);
  return tag === 0 ? undefined : yield* num();
}

function* decodeBuiltOutputs(version: ProtocolVersion, storeDir?: string): Decoder<BuiltOutput[]> {
  if (version.features.has(FEATURE_REALISATION_WITH_PATH)) {
    return yield* list<BuiltOutput>(function* () {
      const outputName = yield* string(MAX_SHORT_STRING_BYTES);
      return { outputName, ...(yield* decodeUnkeyedRealisation(storeDir)) };
    });
  }
  if (!atLeast(version, 28)) return [];
  return yield* list<BuiltOutput>(function* () {
    const id = yield* string(MAX_SHORT_STRING_BYTES);
    const outputName = outputNameOf(id);
    const { outPath, json } = yield* decodeJsonRealisation(storeDir);
    return { outputName, outPath, signatures: [], legacy: { id, json } };
  });
}

export function writeBuildResult(writer: WireWriter, result: BuildResult, version: ProtocolVersion): void {
  writer.u64(BUILD_STATUSES.indexOf(result.status)).string(result.errorMessage);
  if (atLeast(version, 29)) {
    writer.u64(result.timesBuilt).bool(result.isNonDeterministic).u64(result.startTime).u64(result.stopTime);
  }
  if (atLeast(version, 37)) {
    writeOptionalMicros(writer, result.cpuUserMicros);
    writeOptionalMicros(writer, result.cpuSystemMicros);
  }
  if (version.features.has(FEATURE_REALISATION_WITH_PATH)) {
    writer.list(result.builtOutputs, (output) => {
      writer.string(output.outputName);
      writeUnkeyedRealisation(writer, output);
    });
  } else if (atLeast(version, 28)) {
    writer.list(result.builtOutputs, (output) => {
      const { id, json } = output.legacy ?? legacyForm(output);
      writer.string(id).string(json);
    });
  }
}

function writeOptionalMicros(writer: WireWriter, micros: number | undefined): void {
  if (micros === undefined) writer.u64(0);
  else writer.u64(1).u64(micros);
}

/**
 * The form that a newer Nix sends to an older one: the hash is a dummy, since old clients read only the name
 * and the path.
 */
function legacyForm(output: BuiltOutput): { id: string; json: string } {
  const id = `sha256:${'0'.repeat(64)}!${output.outputName}`;
  return { id, json: JSON.stringify({ id, outPath: baseNameOf(output.outPath) }) };
}

export function* decodeKeyedBuildResult(
  version: ProtocolVersion,
  storeDir?: string,
): Decoder<KeyedBuildResult> {
  return {
    path: yield* decodeDerivedPath(version, storeDir),
    ...(yield* decodeBuildResult(version, storeDir)),
  };
}

export function writeKeyedBuildResult(
  writer: WireWriter,
  result: KeyedBuildResult,
  version: ProtocolVersion,
): void {
  writer.string(formatDerivedPath(result.path, version));
  writeBuildResult(writer, result, version);
}
