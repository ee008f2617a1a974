import { MAX_VERSION_STRING_BYTES } from './limits.js';
import { malformed } from './protocol-error.js';
import { decodeTrustedFlag, writeTrustedFlag, type TrustedFlag } from './trusted-flag.js';
import { atLeast, versionFromWire, versionToWire, type ProtocolVersion } from './version.js';
import { string, u32, u64, type Decoder, type Mutable } from './wire.js';
import { WireWriter } from './wire-writer.js';

/** The client's first word (`WORKER_MAGIC_1` in worker-protocol.hh). */
export const CLIENT_MAGIC = 0x6e697863n;
/** The server's first word (`WORKER_MAGIC_2`). */
const SERVER_MAGIC = 0x6478696fn;

/** A daemon's first bytes: its magic word, and its version without features. */
export function encodeServerGreeting(version: ProtocolVersion): Buffer {
  return new WireWriter().u64(SERVER_MAGIC).u64(versionToWire(version)).finish();
}

/**
 * @throws ProtocolError `PROTOCOL_MALFORMED` for a wrong magic word; which versions are acceptable is the
 *   handshake's business.
 */
export function* decodeServerGreeting(): Decoder<ProtocolVersion> {
  const magic = yield* u64();
  if (magic !== SERVER_MAGIC) {
    throw malformed('The peer does not answer like a nix-daemon', { magic: `0x${magic.toString(16)}` });
  }
  return versionFromWire(yield* u32());
}

/**
 * A daemon's description of itself once the version is agreed on (`ClientHandshakeInfo` in
 * worker-protocol.hh).
 */
export interface HandshakeInfo {
  /** Nix's own version, such as `2.34.8`; absent before 1.33. */
  readonly daemonNixVersion?: string;
  /** Absent before 1.35, and where the daemon does not know. */
  readonly trusted?: boolean;
}

export function* decodeHandshakeInfo(version: ProtocolVersion): Decoder<HandshakeInfo> {
  const daemonNixVersion = atLeast(version, 33) ? yield* string(MAX_VERSION_STRING_BYTES) : undefined;
  const trusted: TrustedFlag = atLeast(version, 35) ? yield* decodeTrustedFlag() : undefined;
  const info: Mutable<HandshakeInfo> = {};
  if (daemonNixVersion !== undefined) info.daemonNixVersion = daemonNixVersion;
  if (trusted !== undefined) info.trusted = trusted;
  return info;
}

/** From 1.33 on a daemon's Nix version is part of it: an absent one is sent as empty. */
export function writeHandshakeInfo(writer: WireWriter, info: HandshakeInfo, version: ProtocolVersion): void {
  if (atLeast(version, 33)) writer.string(info.daemonNixVersion ?? '');
  if (atLeast(version, 35)) writeTrustedFlag(writer, info.trusted);
}
