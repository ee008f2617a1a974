import {
  CLIENT_MAGIC,
  decodeHandshakeInfo,
  decodeServerGreeting,
  encodeServerGreeting,
  writeHandshakeInfo,
  type HandshakeInfo,
} from './handshake-info.js';
import { MAX_HANDSHAKE_BYTES } from './limits.js';
import { ProtocolError } from './protocol-error.js';
import { decodeStderrFrame, encodeErrorFrame, encodeStderrFrame, remoteError, Stderr } from './stderr.js';
import {
  atLeast,
  compareVersions,
  decodeFeatures,
  formatVersion,
  intersectVersions,
  MINIMUM_VERSION,
  versionFromWire,
  versionToWire,
  writeFeatures,
  type ProtocolVersion,
} from './version.js';
import { bounded, u32, u64, type Conversation } from './wire.js';
import { WireWriter } from './wire-writer.js';

/** Result of a server's handshake. */
export interface ServerHandshake {
  /** Agreed on, features included: every later byte of the connection is in this version. */
  readonly version: ProtocolVersion;
  /** Version that the client offered, without features: for the log. */
  readonly clientVersion: ProtocolVersion;
}

/** Result of a client's handshake. */
export interface ClientHandshake extends HandshakeInfo {
  readonly version: ProtocolVersion;
  /** Version that the daemon offered, without features: for the log. */
  readonly daemonVersion: ProtocolVersion;
}

/**
 * The daemon's side, up to the point where the client may send operations (`BasicServerConnection::handshake`
 * and `postHandshake` in worker-protocol-connection.cc, then `processConnection` in daemon.cc). It answers at
 * once, even while other parts are still being prepared.
 *
 * @param options.version the highest version to agree on, and the features to offer; 1.32 or later.
 * @param options.nixVersion shown to the client's user as this store's version.
 * @param options.trusted the client's rights, as reported to it; `undefined` is "unknown".
 * @throws ProtocolError `PROTOCOL_NOT_NIX`, `PROTOCOL_VERSION`, `PROTOCOL_MALFORMED` or `PROTOCOL_LIMIT`.
 *   Send what was yielded before it (`Feeder.unsent`): it tells a client that is too old.
 */
export function* serverHandshake(options: {
  readonly version: ProtocolVersion;
  readonly nixVersion: string;
  readonly trusted: boolean | undefined;
}): Conversation<ServerHandshake> {
  const magic = yield* u64();
  if (magic !== CLIENT_MAGIC) throw notAClient(magic);
  yield encodeServerGreeting(options.version);
  const clientVersion = versionFromWire(yield* u32());
  if (!isAcceptable(clientVersion)) {
    if (clientVersion.major === 1) yield rejectionOf(clientVersion);
    throw unacceptable('client', clientVersion);
  }
  const version = yield* serverFeatures(options.version, clientVersion);
  if ((yield* u32()) !== 0) yield* u32(); // an obsolete CPU affinity
  yield* u32(); // the obsolete reserveSpace
  const writer = new WireWriter();
  writeHandshakeInfo(
    writer,
    {
      daemonNixVersion: options.nixVersion,
      ...(options.trusted === undefined ? {} : { trusted: options.trusted }),
    },
    version,
  );
  yield writer.raw(encodeStderrFrame({ kind: 'last' })).finish();
  return { version, clientVersion };
}

function* serverFeatures(ours: ProtocolVersion, client: ProtocolVersion): Conversation<ProtocolVersion> {
  const agreed = intersectVersions(ours, client);
  if (!atLeast(agreed, 38)) return agreed;
  const features = yield* decodeFeatures();
  yield encodeFeatures(ours);
  return intersectVersions(ours, { ...client, features });
}

/**
 * The client's side, up to and including the frames that end the daemon's start
 * (`BasicClientConnection::handshake` and `postHandshake`, then `RemoteStore::initConnection`).
 *
 * @param options.version the highest version to agree on, and the features to offer; 1.32 or later.
 * @throws ProtocolError as `serverHandshake`, and `PROTOCOL_REMOTE_ERROR` when the daemon refuses the client.
 */
export function* clientHandshake(options: {
  readonly version: ProtocolVersion;
}): Conversation<ClientHandshake> {
  yield new WireWriter().u64(CLIENT_MAGIC).u64(versionToWire(options.version)).finish();
  const daemonVersion = yield* readGreeting();
  if (!isAcceptable(daemonVersion)) throw unacceptable('daemon', daemonVersion);
  let version = intersectVersions(options.version, daemonVersion);
  if (atLeast(version, 38)) {
    yield encodeFeatures(options.version);
    version = intersectVersions(options.version, { ...daemonVersion, features: yield* decodeFeatures() });
  }
  yield new WireWriter().u64(0).bool(false).finish(); // obsolete: no CPU affinity, no reserveSpace
  const info = yield* decodeHandshakeInfo(version);
  yield* bounded(startupFrames(), MAX_HANDSHAKE_BYTES);
  return Object.assign(info, { version, daemonVersion });
}

function* readGreeting(): ReturnType<typeof decodeServerGreeting> {
  try {
    return yield* decodeServerGreeting();
  } catch (cause) {
    throw new ProtocolError('PROTOCOL_NOT_NIX', 'What answered is not a nix-daemon', {
      cause,
      hint: 'Check that the socket or the command is that of a nix-daemon, and that nothing else writes to its output.',
    });
  }
}

/** Drops log messages of the daemon's start: no request has been made yet. */
function* startupFrames(): Generator<number, void, Uint8Array> {
  for (;;) {
    const frame = yield* decodeStderrFrame();
    if (frame.kind === 'last') return;
    if (frame.kind === 'error') throw remoteError(frame.error);
  }
}

function isAcceptable(version: ProtocolVersion): boolean {
  return version.major === 1 && compareVersions(version, MINIMUM_VERSION) >= 0;
}

function encodeFeatures(version: ProtocolVersion): Buffer {
  const writer = new WireWriter();
  writeFeatures(writer, version.features);
  return writer.finish();
}

/**
 * Clients before 1.33 read frames right after the greeting, so they can be told why; before 1.26 in an older
 * form.
 */
function rejectionOf(client: ProtocolVersion): Buffer {
  const message = unacceptable('client', client).message;
  if (atLeast(client, 26)) return encodeErrorFrame(message);
  return new WireWriter().u64(Stderr.Error).string(message).u64(1).finish();
}

function unacceptable(who: 'client' | 'daemon', version: ProtocolVersion): ProtocolError {
  return new ProtocolError(
    'PROTOCOL_VERSION',
    `The Nix ${who} speaks protocol ${formatVersion(version)}; Drover needs ${formatVersion(MINIMUM_VERSION)} or later`,
    {
      hint: version.major === 1 ? 'Use Nix 2.4 or later there.' : 'Use a Nix with protocol 1 there.',
      context: { major: version.major, minor: version.minor },
    },
  );
}

function notAClient(magic: bigint): ProtocolError {
  return new ProtocolError(
    'PROTOCOL_NOT_NIX',
    'This is not a Nix client: its first bytes are not the worker protocol',
    {
      hint: 'Only Nix can talk here, for example as the store ssh-ng://… of a build machine.',
      context: { magic: `0x${magic.toString(16)}` },
    },
  );
}
