import type { Duplex } from 'node:stream';

import { Channel } from '../../src/daemon/channel.js';
import { FrameParser } from '../../src/protocol/framed.js';
import { serverHandshake } from '../../src/protocol/handshake.js';
import * as operations from '../../src/protocol/operations.js';
import type { ValidPathInfo } from '../../src/protocol/path-info.js';
import * as responses from '../../src/protocol/responses.js';
import { encodeErrorFrame, encodeStderrFrame } from '../../src/protocol/stderr.js';
import type { StorePath } from '../../src/protocol/store-path.js';
import * as uploads from '../../src/protocol/data-requests.js';
import { protocolVersion, type ProtocolVersion } from '../../src/protocol/version.js';
import { connectedPair } from './connected-pair.js';
import { NAR, narFacts } from './nar.js';

const { Op } = operations;
export const LAST = encodeStderrFrame({ kind: 'last' });
export const VERSION = protocolVersion(33);

/** Takes over one operation, its code being read. */
export type Handler = (channel: Channel, version: ProtocolVersion) => Promise<void>;

export interface Path {
  readonly info: ValidPathInfo;
  readonly nar: Uint8Array;
}

/** A nix-daemon that does what a test says. It keeps paths, and builds nothing by itself. */
export class ScriptedDaemon {
  readonly paths = new Map<string, Path>();
  /** Output paths of derivations. */
  readonly outputs = new Map<string, ReadonlyMap<string, StorePath>>();
  /** Codes of the operations that were asked for, on all connections. */
  readonly asked: number[] = [];
  readonly handlers = new Map<number, Handler>();
  readonly open = new Set<Channel>();
  connections = 0;

  /** The client's end of a new connection. */
  connect(): Duplex {
    const [client, server] = connectedPair();
    this.connections += 1;
    const channel = new Channel(server);
    this.open.add(channel);
    server.once('close', () => this.open.delete(channel));
    void this.#serve(channel)
      .catch(() => undefined)
      .finally(() => {
        channel.destroy();
      });
    return client;
  }

  /** Ends every connection, as the death of the daemon does. */
  die(): void {
    for (const channel of this.open) channel.destroy();
  }

  async #serve(channel: Channel): Promise<void> {
    const handshake = serverHandshake({ version: VERSION, nixVersion: '2.8.0', trusted: true });
    const { version } = await channel.run(handshake);
    while (await channel.waitForInput()) {
      const op = await channel.run(operations.decodeOp());
      this.asked.push(op);
      await (this.handlers.get(op) ?? this.#standard(op))(channel, version);
    }
  }

  #standard(op: number): Handler {
    const { paths } = this;
    const answer = async (channel: Channel, response: Uint8Array = Buffer.alloc(0)): Promise<void> => {
      await channel.write(Buffer.concat([LAST, response]));
    };
    switch (op) {
      case Op.SetOptions:
        return async (channel, version) => {
          await channel.run(operations.decodeSetOptions(version));
          await answer(channel);
        };
      case Op.AddTempRoot:
        return async (channel, version) => {
          await channel.run(operations.decodeAddTempRoot(version));
          await answer(channel, responses.encodeDoneResponse());
        };
      case Op.QueryValidPaths:
        return async (channel, version) => {
          const request = await channel.run(operations.decodeQueryValidPaths(version));
          const valid = request.paths.filter((path) => paths.has(path));
          await answer(channel, responses.encodeStorePathsResponse(valid));
        };
      case Op.QueryPathInfo:
        return async (channel, version) => {
          const path = paths.get(await channel.run(operations.decodeQueryPathInfo(version)));
          await answer(channel, responses.encodePathInfoResponse(path?.info, version));
        };
      case Op.QueryDerivationOutputMap:
        return async (channel, version) => {
          const drv = await channel.run(operations.decodeQueryDerivationOutputMap(version));
          const outputs = this.outputs.get(drv);
          if (outputs === undefined) await channel.write(encodeErrorFrame(`no such derivation: ${drv}`));
          else await answer(channel, responses.encodeOutputMapResponse(outputs));
        };
      case Op.NarFromPath:
        return async (channel, version) => {
          const path = paths.get(await channel.run(operations.decodeNarFromPath(version)));
          if (path === undefined) await channel.write(encodeErrorFrame('no such path'));
          else await answer(channel, Buffer.from(path.nar));
        };
      case Op.AddToStoreNar:
        return async (channel, version) => {
          const { info } = await channel.run(uploads.decodeAddToStoreNar(version));
          const nar = await drainFramed(channel);
          paths.set(info.path, { info, nar });
          await answer(channel);
        };
      case Op.AddMultipleToStore:
        return async (channel, version) => {
          await channel.run(uploads.decodeAddMultipleToStore(version));
          await drainFramed(channel);
          await answer(channel);
        };
      default:
        throw new Error(`operation ${op} is not scripted`);
    }
  }
}

/** The payload of a framed stream. */
export async function drainFramed(channel: Channel): Promise<Buffer> {
  const parser = new FrameParser();
  const parts: Uint8Array[] = [];
  while (!parser.ended) {
    const chunks = await channel.readSome(parser.wantedBytes);
    if (chunks.length === 0) throw new Error('the upload was cut');
    for (const chunk of chunks) parts.push(...parser.push(chunk).payload);
  }
  return Buffer.concat(parts);
}

let count = 0;

/** A made-up store path. */
export function storePath(name: string): StorePath {
  const digits = '0123456789abcdfghijklmnpqrsvwxyz';
  let hash = '';
  for (let n = ++count, i = 0; i < 32; i++, n = Math.floor(n / 32)) hash = (digits[n % 32] ?? '') + hash;
  return `/nix/store/${hash}-${name}` as StorePath;
}

/** A made-up path info; by default that of `NAR`. */
export function pathInfo(path: StorePath, more: Partial<ValidPathInfo> = {}): ValidPathInfo {
  return {
    path,
    ...narFacts(NAR),
    references: [],
    registrationTime: 1,
    ultimate: false,
    signatures: [],
    ...more,
  };
}
