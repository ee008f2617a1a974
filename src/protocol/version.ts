import { MAX_FEATURES, MAX_VERSION_STRING_BYTES } from './limits.js';
import { strings, type Decoder } from './wire.js';
import type { WireWriter } from './wire-writer.js';

/**
 * A version of the worker protocol: spoken by one side, or agreed on by both. Since 1.38 Nix adds features by
 * name instead of incrementing `minor` (`WorkerProto::Version` in worker-protocol.hh).
 */
export interface ProtocolVersion {
  readonly major: number;
  readonly minor: number;
  readonly features: ReadonlySet<string>;
}

/** Realisations name the derivation's path, not its hash: changes BuildResult and everything about realisations. */
export const FEATURE_REALISATION_WITH_PATH = 'realisation-with-path-not-hash';

/** CollectGarbage takes a set of paths whose referrers may go too. Changes that operation only. */
export const FEATURE_DELETE_DEAD_SPECIFIC_REFERRERS = 'delete-dead-specific-referrers';

const NO_FEATURES: ReadonlySet<string> = new Set();

/** A 1.x version, with these features. */
export function protocolVersion(minor: number, features: Iterable<string> = []): ProtocolVersion {
  return { major: 1, minor, features: new Set(features) };
}

/** The newest version whose values this codec knows, with the only feature that changes any of them. */
export const LATEST_VERSION: ProtocolVersion = protocolVersion(38, [FEATURE_REALISATION_WITH_PATH]);

/** The oldest version that Drover speaks: 1.32 brought AddMultipleToStore, without which the upload is per path. */
export const MINIMUM_VERSION: ProtocolVersion = protocolVersion(32);

/** The version in which Nix writes the path infos inside AddMultipleToStore, whatever was negotiated. */
export const ADD_MULTIPLE_INFO_VERSION: ProtocolVersion = protocolVersion(16);

/** Negative, 0 or positive, by number alone: features have no order. */
export function compareVersions(a: ProtocolVersion, b: ProtocolVersion): number {
  return a.major - b.major || a.minor - b.minor;
}

/** Whether `version` is 1.`minor` or later. */
export function atLeast(version: ProtocolVersion, minor: number): boolean {
  return version.major > 1 || (version.major === 1 && version.minor >= minor);
}

/** The version that two sides agree on: the lower number, and the features that both have. */
export function intersectVersions(a: ProtocolVersion, b: ProtocolVersion): ProtocolVersion {
  const { major, minor } = compareVersions(a, b) <= 0 ? a : b;
  return { major, minor, features: new Set([...a.features].filter((feature) => b.features.has(feature))) };
}

/** `1.38`, or `1.38+feature` with its features in order. */
export function formatVersion(version: ProtocolVersion): string {
  return [`${version.major}.${version.minor}`, ...[...version.features].sort()].join('+');
}

/** The number on the wire, which has no features. */
export function versionToWire(version: ProtocolVersion): number {
  return version.major * 256 + version.minor;
}

/** The version that a number on the wire stands for, without features. Like Nix, looks at the low 16 bits only. */
export function versionFromWire(wire: number): ProtocolVersion {
  return { major: (wire >>> 8) & 0xff, minor: wire & 0xff, features: NO_FEATURES };
}

/** The features that a peer of 1.38 or later offers. */
export function* decodeFeatures(): Decoder<ReadonlySet<string>> {
  return new Set(yield* strings(MAX_FEATURES, MAX_VERSION_STRING_BYTES));
}

/** Features in the order in which Nix writes a set. */
export function writeFeatures(writer: WireWriter, features: ReadonlySet<string>): void {
  writer.strings([...features].sort());
}
