import { decodeBuildMode, writeBuildMode } from '../../../src/protocol/build-mode.js';
import {
  decodeBuildResult,
  decodeKeyedBuildResult,
  isSuccess,
  writeBuildResult,
  writeKeyedBuildResult,
  type BuildResult,
  type BuiltOutput,
} from '../../../src/protocol/build-result.js';
import {
  decodeContentAddress,
  decodeOptionalContentAddress,
  formatContentAddress,
  type ContentAddress,
} from '../../../src/protocol/content-address.js';
import {
  decodeDerivedPath,
  formatDerivedPath,
  type DerivedPath,
} from '../../../src/protocol/derived-path.js';
import {
  decodeHandshakeInfo,
  decodeServerGreeting,
  encodeServerGreeting,
  writeHandshakeInfo,
} from '../../../src/protocol/handshake-info.js';
import { formatSri, parseHash } from '../../../src/protocol/hash.js';
import {
  decodePathInfo,
  decodeValidPathInfo,
  writePathInfo,
  writeValidPathInfo,
} from '../../../src/protocol/path-info.js';
import type { PathInfo } from '../../../src/protocol/path-info.js';
import {
  decodeDrvOutput,
  decodeJsonRealisation,
  decodeRealisation,
  decodeUnkeyedRealisation,
  writeDrvOutput,
  writeRealisation,
  writeUnkeyedRealisation,
  type Realisation,
  type UnkeyedRealisation,
} from '../../../src/protocol/realisation.js';
import {
  baseNameOf,
  decodeOptionalStorePath,
  decodeStorePath,
  type StorePath,
} from '../../../src/protocol/store-path.js';
import { decodeTrustedFlag, writeTrustedFlag } from '../../../src/protocol/trusted-flag.js';
import type { ProtocolVersion } from '../../../src/protocol/version.js';
import { list, string, strings, type Decoder } from '../../../src/protocol/wire.js';
import type { WireWriter } from '../../../src/protocol/wire-writer.js';

/** How one kind of value is read, written, and told in the JSON of Nix's own tests. */
export interface Kind<T> {
  readonly decode: (version: ProtocolVersion) => Decoder<T>;
  readonly write: (writer: WireWriter, value: T, version: ProtocolVersion) => void;
  /** `expected` is the JSON beside the file, for kinds whose JSON has changed from one Nix to the next. */
  readonly toJson?: (value: T, expected: unknown) => unknown;
}

/** Hides the type of a kind's values, so that kinds of different types fit into one table. */
type AnyKind = <R>(use: <T>(kind: Kind<T>) => R) => R;

function kind<T>(one: Kind<T>): AnyKind {
  return (use) => use(one);
}

/** Nix's `std::tuple` is its parts one after the other, so that a file with N values is read N times. */
export const GOLDEN_KINDS: ReadonlyMap<string, AnyKind> = new Map([
  ['string', kind({ decode: () => string(), write: (w, v) => w.string(v), toJson: (v) => v })],
  ['store-path', kind({ decode: () => decodeStorePath(), write: (w, v) => w.string(v), toJson: baseNameOf })],
  [
    'optional-store-path',
    kind({
      decode: () => decodeOptionalStorePath(),
      write: (w, v) => w.string(v ?? ''),
      toJson: (v) => (v === undefined ? null : baseNameOf(v)),
    }),
  ],
  [
    'content-address',
    kind({
      decode: decodeContentAddress,
      write: (w, v) => w.string(formatContentAddress(v)),
      toJson: contentAddressJson,
    }),
  ],
  [
    'optional-content-address',
    kind({
      decode: decodeOptionalContentAddress,
      write: (w, v) => w.string(formatContentAddress(v)),
      toJson: contentAddressJson,
    }),
  ],
  [
    'build-mode',
    kind({
      decode: decodeBuildMode,
      write: writeBuildMode,
      toJson: (v) => ['normal', 'repair', 'check'].indexOf(v),
    }),
  ],
  [
    'optional-trusted-flag',
    kind({ decode: decodeTrustedFlag, write: writeTrustedFlag, toJson: (v) => v ?? null }),
  ],
  [
    'derived-path',
    kind({
      decode: decodeDerivedPath,
      write: (w, v, version) => w.string(formatDerivedPath(v, version)),
      toJson: derivedPathJson,
    }),
  ],
  ['build-result', kind({ decode: decodeBuildResult, write: writeBuildResult, toJson: buildResultJson })],
  [
    'keyed-build-result',
    kind({
      decode: decodeKeyedBuildResult,
      write: writeKeyedBuildResult,
      toJson: (v, expected) => ({ ...buildResultJson(v, expected), path: derivedPathJson(v.path) }),
    }),
  ],
  ['unkeyed-valid-path-info', kind({ decode: decodePathInfo, write: writePathInfo, toJson: pathInfoJson })],
  [
    'valid-path-info',
    kind({
      decode: decodeValidPathInfo,
      write: writeValidPathInfo,
      toJson: (v, expected) => ({ ...pathInfoJson(v, expected), path: baseNameOf(v.path) }),
    }),
  ],
  ['drv-output', kind({ decode: () => string(), write: (w, v) => w.string(v), toJson: (v) => v })],
  [
    'realisation',
    kind({
      decode: () => decodeJsonRealisation(),
      write: (w, v) => w.string(v.json),
      toJson: jsonRealisation,
    }),
  ],
  ['drv-output+', kind({ decode: () => decodeDrvOutput(), write: writeDrvOutput, toJson: drvOutputJson })],
  [
    'unkeyed-realisation+',
    kind({
      decode: () => decodeUnkeyedRealisation(),
      write: writeUnkeyedRealisation,
      toJson: realisationJson,
    }),
  ],
  [
    'realisation+',
    kind({
      decode: () => decodeRealisation(),
      write: writeRealisation,
      toJson: (v: Realisation) => ({ key: drvOutputJson(v.id), value: realisationJson(v) }),
    }),
  ],
  ['client-handshake-info', kind({ decode: decodeHandshakeInfo, write: writeHandshakeInfo })],
  [
    'handshake-to-client',
    kind({ decode: decodeServerGreeting, write: (w, v) => w.raw(encodeServerGreeting(v)) }),
  ],
]);

/** Nix's file of vectors and its file of sets end with one of a deeper level. */
export const NESTED_KIND = kind<(string[] | string[][])[]>({
  decode: function* () {
    const flat: (string[] | string[][])[] = [];
    for (let i = 0; i < 3; i++) flat.push(yield* strings());
    return [...flat, yield* list(() => strings())];
  },
  write: (writer, [first = [], second = [], third = [], nested = []]) => {
    for (const flat of [first, second, third]) writer.strings(flat as string[]);
    writer.list(nested as string[][], (inner) => writer.strings(inner));
  },
  toJson: (value) => value,
});

function contentAddressJson(address: ContentAddress | undefined): unknown {
  if (address === undefined) return null;
  return { method: address.method, hash: formatSri(parseHash(address.hash, address.algorithm)) };
}

function derivedPathJson({ path, via, outputs }: DerivedPath): unknown {
  const base = baseNameOf(path);
  if (outputs === undefined) return base;
  const drvPath = via.reduce<unknown>((inner, output) => ({ drvPath: inner, output }), base);
  return { drvPath, outputs: outputs === '*' ? ['*'] : [...outputs] };
}

function buildResultJson(result: BuildResult, expected: unknown): Record<string, unknown> {
  const success = isSuccess(result.status);
  return {
    status: result.status,
    success,
    timesBuilt: result.timesBuilt,
    startTime: result.startTime,
    stopTime: result.stopTime,
    ...(result.cpuUserMicros === undefined ? {} : { cpuUser: result.cpuUserMicros }),
    ...(result.cpuSystemMicros === undefined ? {} : { cpuSystem: result.cpuSystemMicros }),
    ...(success
      ? { builtOutputs: builtOutputsJson(result.builtOutputs, field(expected, 'builtOutputs')) }
      : { errorMsg: result.errorMessage, isNonDeterministic: result.isNonDeterministic }),
  };
}

/** Upstream's reader takes only name and path from the old form; its JSON has more where an older Nix wrote it. */
function builtOutputsJson(outputs: readonly BuiltOutput[], expected: unknown): Record<string, unknown> {
  return Object.fromEntries(
    outputs.map((output) => {
      const plain = realisationJson(output);
      if (output.legacy === undefined || field(field(expected, output.outputName), 'id') === undefined) {
        return [output.outputName, plain];
      }
      return [output.outputName, JSON.parse(output.legacy.json)];
    }),
  );
}

function drvOutputJson(id: { drvPath: StorePath; outputName: string }): unknown {
  return { drvPath: baseNameOf(id.drvPath), outputName: id.outputName };
}

function realisationJson(realisation: UnkeyedRealisation): unknown {
  return { outPath: baseNameOf(realisation.outPath), signatures: realisation.signatures.map(signatureJson) };
}

function jsonRealisation({ json, id, outPath }: { json: string; id: string; outPath: StorePath }): unknown {
  return { ...(JSON.parse(json) as object), id, outPath: baseNameOf(outPath) };
}

function signatureJson(signature: string): unknown {
  const [keyName, sig] = signature.split(':');
  return { keyName, sig };
}

/** Version 3 is the newest of path-info JSON; version 2 has whole signatures, and older ones more differences. */
function pathInfoJson(info: PathInfo, expected: unknown): Record<string, unknown> {
  const structured = field(expected, 'version') === 3;
  return {
    ca: contentAddressJson(info.contentAddress),
    deriver: info.deriver === undefined ? null : baseNameOf(info.deriver),
    narHash: formatSri(parseHash(info.narHash, 'sha256')),
    narSize: info.narSize,
    references: info.references.map(baseNameOf),
    registrationTime: info.registrationTime,
    signatures: info.signatures.map((signature) => (structured ? signatureJson(signature) : signature)),
    storeDir: '/nix/store',
    ultimate: info.ultimate,
    version: structured ? 3 : 2,
  };
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}
