import {
  decodeOptionalContentAddress,
  formatContentAddress,
  type ContentAddress,
} from './content-address.js';
import { parseHash } from './hash.js';
import { MAX_ITEMS, MAX_SHORT_STRING_BYTES } from './limits.js';
import { decodeOptionalStorePath, decodeStorePath, decodeStorePaths, type StorePath } from './store-path.js';
import { atLeast, type ProtocolVersion } from './version.js';
import { bool, num, string, strings, type Decoder, type Mutable } from './wire.js';
import type { WireWriter } from './wire-writer.js';

/** A store's metadata of a valid path, without the path itself (`UnkeyedValidPathInfo` in path-info.hh). */
export interface PathInfo {
  readonly deriver?: StorePath;
  /** SHA-256 of the NAR, spelled as on the wire: Nix writes 64 hexadecimal digits, with no prefix. */
  readonly narHash: string;
  readonly references: readonly StorePath[];
  /** Seconds since 1970. */
  readonly registrationTime: number;
  /** Bytes of the NAR; 0 is "unknown" in very old databases. */
  readonly narSize: number;
  /** Built here, so trusted without signatures. This and the next two: absent on the wire before 1.16. */
  readonly ultimate: boolean;
  /** `<key name>:<base64>` each. */
  readonly signatures: readonly string[];
  readonly contentAddress?: ContentAddress;
}

/** The same, with the path. */
export interface ValidPathInfo extends PathInfo {
  readonly path: StorePath;
}

export function* decodePathInfo(version: ProtocolVersion, storeDir?: string): Decoder<PathInfo> {
  const deriver = yield* decodeOptionalStorePath(storeDir);
  const narHash = yield* decodeNarHash();
  const references = yield* decodeStorePaths(storeDir);
  const registrationTime = yield* num();
  const narSize = yield* num();
  const info: Mutable<PathInfo> = {
    narHash,
    references,
    registrationTime,
    narSize,
    ultimate: false,
    signatures: [],
  };
  if (deriver !== undefined) info.deriver = deriver;
  if (!atLeast(version, 16)) return info;
  info.ultimate = yield* bool();
  info.signatures = yield* strings(MAX_ITEMS, MAX_SHORT_STRING_BYTES);
  const contentAddress = yield* decodeOptionalContentAddress();
  if (contentAddress !== undefined) info.contentAddress = contentAddress;
  return info;
}

function* decodeNarHash(): Decoder<string> {
  const narHash = yield* string(MAX_SHORT_STRING_BYTES);
  parseHash(narHash, 'sha256');
  return narHash;
}

export function* decodeValidPathInfo(version: ProtocolVersion, storeDir?: string): Decoder<ValidPathInfo> {
  return { path: yield* decodeStorePath(storeDir), ...(yield* decodePathInfo(version, storeDir)) };
}

export function writePathInfo(writer: WireWriter, info: PathInfo, version: ProtocolVersion): void {
  writer
    .string(info.deriver ?? '')
    .string(info.narHash)
    .strings(info.references);
  writer.u64(info.registrationTime).u64(info.narSize);
  if (!atLeast(version, 16)) return;
  writer.bool(info.ultimate).strings(info.signatures).string(formatContentAddress(info.contentAddress));
}

export function writeValidPathInfo(writer: WireWriter, info: ValidPathInfo, version: ProtocolVersion): void {
  writer.string(info.path);
  writePathInfo(writer, info, version);
}
