import type { BasicDerivation, DerivationOutput } from '../../../src/protocol/basic-derivation.js';
import type { BuildMode } from '../../../src/protocol/build-mode.js';
import type { BuildResult, BuildStatus, KeyedBuildResult } from '../../../src/protocol/build-result.js';
import type { ContentAddress } from '../../../src/protocol/content-address.js';
import type { DerivedPath } from '../../../src/protocol/derived-path.js';
import { decodeNixString } from '../../../src/protocol/nix-string.js';
import type { PathInfo, ValidPathInfo } from '../../../src/protocol/path-info.js';
import { storePathFromBaseName, type StorePath } from '../../../src/protocol/store-path.js';
import {
  FEATURE_DELETE_DEAD_SPECIFIC_REFERRERS,
  FEATURE_REALISATION_WITH_PATH,
  protocolVersion,
  type ProtocolVersion,
} from '../../../src/protocol/version.js';
import fc from '../../support/property.js';

const from = (alphabet: string, minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...Array.from(alphabet)), minLength, maxLength });

/** Any string that a peer could send: its bytes need not be UTF-8. */
export const nixString: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.uint8Array({ maxLength: 20 }).map(decodeNixString),
);

const name = from('abcxyzABC019+-_?=', 1, 12);

export const storePath: fc.Arbitrary<StorePath> = fc
  .tuple(from('0123456789abcdfghijklmnpqrsvwxyz', 32, 32), name)
  .map(([hash, rest]) => storePathFromBaseName(`${hash}-${rest}`));

const storePaths = fc.array(storePath, { maxLength: 4 });

/** Versions that two sides could agree on. */
export const version: fc.Arbitrary<ProtocolVersion> = fc.oneof(
  fc.integer({ min: 32, max: 37 }).map((minor) => protocolVersion(minor)),
  fc
    .subarray([FEATURE_REALISATION_WITH_PATH, FEATURE_DELETE_DEAD_SPECIFIC_REFERRERS])
    .map((features) => protocolVersion(38, features)),
);

const hex = (digits: number): fc.Arbitrary<string> => from('0123456789abcdef', digits, digits);
const natural = fc.maxSafeNat();
const int32 = fc.integer({ min: 0, max: 0xffff_ffff });

export const buildMode: fc.Arbitrary<BuildMode> = fc.constantFrom('normal', 'repair', 'check');

const contentAddress: fc.Arbitrary<ContentAddress> = fc.record({
  method: fc.constantFrom('text', 'flat', 'nar', 'git'),
  algorithm: fc.constant('sha256'),
  hash: hex(64),
});

/** Drops what is `undefined`: the codec leaves absent fields out. */
function compact<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}

export const pathInfo: fc.Arbitrary<PathInfo> = fc
  .record(
    {
      deriver: storePath,
      narHash: hex(64),
      references: storePaths,
      registrationTime: natural,
      narSize: natural,
      ultimate: fc.boolean(),
      signatures: fc.array(nixString, { maxLength: 2 }),
      contentAddress,
    },
    {
      requiredKeys: ['narHash', 'references', 'registrationTime', 'narSize', 'ultimate', 'signatures'],
    },
  )
  .map(compact);

export const validPathInfo: fc.Arbitrary<ValidPathInfo> = fc
  .tuple(storePath, pathInfo)
  .map(([path, info]) => ({ path, ...info }));

export const derivedPath: fc.Arbitrary<DerivedPath> = fc.oneof(
  storePath.map((path): DerivedPath => ({ path, via: [] })),
  fc.record({
    path: storePath,
    via: fc.array(name, { maxLength: 2 }),
    outputs: fc.oneof(fc.constant('*' as const), fc.array(name, { minLength: 1, maxLength: 3 })),
  }),
);

const output: fc.Arbitrary<DerivationOutput> = fc
  .record(
    { path: storePath, hashAlgorithm: nixString, hash: nixString },
    { requiredKeys: ['hashAlgorithm', 'hash'] },
  )
  .map(compact);

const mapOf = <V>(value: fc.Arbitrary<V>): fc.Arbitrary<Map<string, V>> =>
  fc.array(fc.tuple(nixString, value), { maxLength: 4 }).map((entries) => new Map(entries));

export const stringMap = mapOf(nixString);
export const outputMap = mapOf(fc.option(storePath, { nil: undefined }));

export const basicDerivation: fc.Arbitrary<BasicDerivation> = fc.record({
  outputs: mapOf(output),
  inputSources: storePaths,
  platform: nixString,
  builder: nixString,
  args: fc.array(nixString, { maxLength: 3 }),
  env: stringMap,
});

const status: fc.Arbitrary<BuildStatus> = fc.constantFrom(
  'Built',
  'AlreadyValid',
  'TimedOut',
  'NoSubstituters',
);

/** Results that this version can carry whole. */
export function buildResult(agreed: ProtocolVersion): fc.Arbitrary<BuildResult> {
  const withPath = agreed.features.has(FEATURE_REALISATION_WITH_PATH);
  const signatures = withPath ? fc.array(nixString, { maxLength: 2 }) : fc.constant([]);
  const cpu = agreed.minor >= 37 ? fc.option(natural, { nil: undefined }) : fc.constant(undefined);
  return fc
    .record({
      status,
      errorMessage: nixString,
      timesBuilt: int32,
      isNonDeterministic: fc.boolean(),
      startTime: natural,
      stopTime: natural,
      cpuUserMicros: cpu,
      cpuSystemMicros: cpu,
      builtOutputs: fc.array(fc.record({ outputName: name, outPath: storePath, signatures }), {
        maxLength: 3,
      }),
    })
    .map((result) => compact(result) as BuildResult);
}

export function keyedBuildResult(agreed: ProtocolVersion): fc.Arbitrary<KeyedBuildResult> {
  return fc.tuple(derivedPath, buildResult(agreed)).map(([path, result]) => ({ path, ...result }));
}

export { natural, int32, storePaths };
