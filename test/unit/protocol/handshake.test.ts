import { describe, expect, test } from '@jest/globals';
import { Feeder, type Progress } from '../../../src/protocol/feeder.js';
import {
  clientHandshake,
  serverHandshake,
  type ClientHandshake,
  type ServerHandshake,
} from '../../../src/protocol/handshake.js';
import { CLIENT_MAGIC, encodeServerGreeting } from '../../../src/protocol/handshake-info.js';
import {
  decodeStderrFrame,
  encodeErrorFrame,
  encodeStderrFrame,
  Stderr,
} from '../../../src/protocol/stderr.js';
import {
  compareVersions,
  FEATURE_REALISATION_WITH_PATH,
  intersectVersions,
  LATEST_VERSION,
  protocolVersion,
  type ProtocolVersion,
} from '../../../src/protocol/version.js';
import { decodeAll, num, string, type Conversation, type Decoder } from '../../../src/protocol/wire.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { version } from './arbitraries.js';
import { chunked, converse } from './support.js';
import fc from '../../support/property.js';

interface Meeting {
  readonly client: ClientHandshake;
  readonly server: ServerHandshake;
  readonly toClient: Buffer;
  readonly toServer: Buffer;
}

const serving = (offered: ProtocolVersion, trusted?: boolean): Conversation<ServerHandshake> =>
  serverHandshake({ version: offered, nixVersion: '2.34.8', trusted });

/** Lets both sides talk until both are done. */
function meet(ours: ProtocolVersion, theirs: ProtocolVersion, trusted?: boolean): Meeting {
  const client = new Feeder(clientHandshake({ version: theirs }));
  const server = new Feeder(serving(ours, trusted));
  const toClient: Uint8Array[] = [];
  const toServer: Uint8Array[] = [];
  let clientProgress: Progress<ClientHandshake> = client.feed();
  let serverProgress: Progress<ServerHandshake> = server.feed();
  for (let round = 0; round < 10; round++) {
    toServer.push(...clientProgress.send);
    toClient.push(...serverProgress.send);
    const [fromClient, fromServer] = [clientProgress.send, serverProgress.send];
    serverProgress = server.feed(Buffer.concat(fromClient));
    clientProgress = client.feed(Buffer.concat(fromServer));
  }
  return {
    client: client.end(),
    server: server.end(),
    toClient: Buffer.concat(toClient),
    toServer: Buffer.concat(toServer),
  };
}

const versions = [
  protocolVersion(32),
  protocolVersion(33),
  protocolVersion(35),
  protocolVersion(38),
  LATEST_VERSION,
];

/** Each bit on its own, all of them, and two that reach from one ASCII letter to another. */
const FLIPS = [1, 2, 4, 8, 16, 32, 64, 128, 255, 3, 21];

describe('handshake', () => {
  test('both sides agree on the lower version and the common features', () => {
    fc.assert(
      fc.property(version, version, fc.option(fc.boolean(), { nil: undefined }), (ours, theirs, trusted) => {
        const { client, server } = meet(ours, theirs, trusted);
        expect(client.version).toEqual(server.version);
        expect(client.version).toEqual(intersectVersions(ours, theirs));
        expect(compareVersions(server.clientVersion, theirs)).toBe(0);
        expect(compareVersions(client.daemonVersion, ours)).toBe(0);
        expect(client.daemonNixVersion).toBe(client.version.minor >= 33 ? '2.34.8' : undefined);
        expect(client.trusted).toBe(client.version.minor >= 35 ? trusted : undefined);
      }),
    );
  });

  test.each(versions)('1.$minor: split at every byte, it ends the same', (offered) => {
    const { toClient, toServer, client, server } = meet(offered, offered, true);
    for (let at = 0; at <= toServer.length; at++) {
      const split = converse(serving(offered, true), [
        toServer.subarray(0, at),
        toServer.subarray(at),
        Buffer.of(9),
      ]);
      expect(split).toMatchObject({ value: server, waiting: false });
      expect(split.sent.equals(toClient)).toBe(true);
      expect([...split.rest]).toEqual([9]);
    }
    for (let at = 0; at <= toClient.length; at++) {
      const split = converse(clientHandshake({ version: offered }), [
        toClient.subarray(0, at),
        toClient.subarray(at),
      ]);
      expect(split).toMatchObject({ value: client, waiting: false });
    }
    expect(converse(serving(offered, true), chunked(toServer, 1)).value).toEqual(server);
    expect(converse(clientHandshake({ version: offered }), chunked(toClient, 1)).value).toEqual(client);
  });

  test.each(versions)('1.$minor: cut at every byte, it is not done', (offered) => {
    const { toClient, toServer } = meet(offered, offered, true);
    for (let at = 0; at < toServer.length; at++) {
      expect(converse(serving(offered, true), [toServer.subarray(0, at)])).toMatchObject({ waiting: true });
    }
    for (let at = 0; at < toClient.length; at++) {
      const cut = converse(clientHandshake({ version: offered }), [toClient.subarray(0, at)]);
      expect(cut).toMatchObject({ waiting: true });
    }
  });

  test.each(versions)(
    '1.$minor: corrupted at every byte, it ends, waits or fails, and nothing else',
    (offered) => {
      const { toClient, toServer } = meet(offered, offered, true);
      for (const [input, begin] of [
        [toServer, () => serving(offered, true)],
        [toClient, () => clientHandshake({ version: offered })],
      ] as const) {
        const wrong: string[] = [];
        for (let at = 0; at < input.length; at++) {
          for (const flip of FLIPS) {
            const corrupt = Buffer.from(input);
            corrupt[at] = (corrupt[at] ?? 0) ^ flip;
            const result = converse<{ version: ProtocolVersion }>(begin(), [corrupt]);
            const tooNew = (result.value?.version.minor ?? 0) > offered.minor;
            if (tooNew || (at < 8 && result.failure !== 'PROTOCOL_NOT_NIX')) wrong.push(`${flip} at ${at}`);
          }
        }
        expect(wrong).toEqual([]);
      }
    },
  );
});

/** Before 1.26 an error is its word, its message and an exit status. */
function* oldErrorFrame(): Decoder<[number, string]> {
  const word = yield* num();
  const message = yield* string();
  yield* num();
  return [word, message];
}

describe('a server', () => {
  const hello = (wire: number): Buffer => new WireWriter().u64(CLIENT_MAGIC).u64(wire).finish();

  test.each(['GET / HTTP/1.1\r\n', 'SSH-2.0-OpenSSH_9.9\r\n', '\0'.repeat(8)])(
    'tells %j from Nix',
    (text) => {
      const result = converse(serving(LATEST_VERSION), [Buffer.from(text)]);
      expect(result).toMatchObject({ failure: 'PROTOCOL_NOT_NIX' });
      expect(result.sent).toHaveLength(0);
    },
  );

  test('answers the magic word before it knows the version: old clients wait for that', () => {
    const result = converse(serving(LATEST_VERSION), [hello(0).subarray(0, 8)]);
    expect(result.sent.equals(encodeServerGreeting(LATEST_VERSION))).toBe(true);
  });

  test('accepts a newer client at its own version', () => {
    const features = new WireWriter().strings(['new', FEATURE_REALISATION_WITH_PATH]).u64(0).u64(0).finish();
    const result = converse(serving(LATEST_VERSION), [hello(0x127), features]);
    expect(result.value?.version).toEqual(LATEST_VERSION);
  });

  test('reads the obsolete CPU affinity', () => {
    const input = Buffer.concat([hello(0x120), new WireWriter().u64(1).u64(3).u64(0).finish()]);
    expect(converse(serving(LATEST_VERSION), [input]).value?.version).toEqual(protocolVersion(32));
  });

  test('tells a client that is too old so, in a frame that it can read', () => {
    const result = converse(serving(LATEST_VERSION), [hello(0x11f)]);
    expect(result.failure).toBe('PROTOCOL_VERSION');
    const frame = decodeAll(decodeStderrFrame(), result.sent.subarray(16));
    if (frame.kind !== 'error') throw new Error('not an error frame');
    expect(frame.error.message).toContain('1.31');
    const older = converse(serving(LATEST_VERSION), [hello(0x115)]);
    expect(older.failure).toBe('PROTOCOL_VERSION');
    const [word, message] = decodeAll(oldErrorFrame(), older.sent.subarray(16));
    expect(word).toBe(Stderr.Error);
    expect(message).toContain('1.21');
  });

  test('refuses another major version', () => {
    expect(converse(serving(LATEST_VERSION), [hello(0x226)]).failure).toBe('PROTOCOL_VERSION');
  });

  test('refuses to be fed features without end', () => {
    const features = new WireWriter().u64(1n << 60n).finish();
    expect(converse(serving(LATEST_VERSION), [hello(0x126), features]).failure).toBe('PROTOCOL_LIMIT');
  });
});

describe('a client', () => {
  const greeting = encodeServerGreeting(protocolVersion(32));
  const begin = (): Conversation<ClientHandshake> => clientHandshake({ version: LATEST_VERSION });

  test('skips what a daemon logs while it starts', () => {
    const frames = [
      encodeStderrFrame({ kind: 'next', text: 'warning: something\n' }),
      encodeStderrFrame({ kind: 'last' }),
    ];
    expect(converse(begin(), [greeting, ...frames]).value).toMatchObject({ version: { minor: 32 } });
  });

  test('passes on the error with which a daemon refuses it', () => {
    const result = converse(begin(), [greeting, encodeErrorFrame('user is not allowed to connect')]);
    expect(result.failure).toBe('PROTOCOL_REMOTE_ERROR');
  });

  test('does not read log messages for ever', () => {
    const message = encodeStderrFrame({ kind: 'next', text: 'x'.repeat(100_000) });
    const result = converse(begin(), [greeting, ...Array.from({ length: 20 }, () => message)]);
    expect(result.failure).toBe('PROTOCOL_LIMIT');
  });

  test('refuses a daemon that is too old, or of another major version', () => {
    expect(converse(begin(), [encodeServerGreeting(protocolVersion(31))]).failure).toBe('PROTOCOL_VERSION');
    const other = { ...LATEST_VERSION, major: 2 };
    expect(converse(begin(), [encodeServerGreeting(other)]).failure).toBe('PROTOCOL_VERSION');
  });
});
