import type { Duplex } from 'node:stream';

import { DroverError } from '../lib/errors.js';
import { Mutex } from '../lib/mutex.js';
import { Channel } from './channel.js';
import { encodeFrame, encodeFrameEnd } from '../protocol/framed.js';
import { clientHandshake, type ClientHandshake } from '../protocol/handshake.js';
import {
  encodeAddTempRoot,
  encodeNarFromPath,
  encodeQueryDerivationOutputMap,
  encodeQueryPathInfo,
  encodeQueryValidPaths,
} from '../protocol/operations.js';
import type { PathInfo, ValidPathInfo } from '../protocol/path-info.js';
import type { ProtocolError } from '../protocol/protocol-error.js';
import {
  decodeDoneResponse,
  decodeOutputMapResponse,
  decodePathInfoResponse,
  decodeStorePathsResponse,
} from '../protocol/responses.js';
import { decodeStderrFrame, remoteError, type RemoteErrorInfo } from '../protocol/stderr.js';
import type { StorePath } from '../protocol/store-path.js';
import { encodeAddToStoreNar } from '../protocol/uploads.js';
import type { ProtocolVersion } from '../protocol/version.js';
import type { Decoder } from '../protocol/wire.js';

/** Requests that are sent before their first response is read: a round trip per path would cost more than its answer. */
const PIPELINED_REQUESTS = 256;
/** Bytes of a NAR that are handed on at a time. */
const NAR_CHUNK_BYTES = 256 * 1024;

/**
 * A client of a nix-daemon, the host's or a guest's. Operations run one after the other, in the order in which they
 * were asked for.
 */
export class WorkerClient implements AsyncDisposable {
  readonly channel: Channel;
  readonly handshake: ClientHandshake;
  readonly #mutex = new Mutex();

  private constructor(channel: Channel, handshake: ClientHandshake) {
    this.channel = channel;
    this.handshake = handshake;
  }

  /**
   * @param version the highest version to agree on.
   * @param peer whose daemon it is, for errors: `The nix-daemon of …`.
   * @throws ProtocolError as `clientHandshake`; the stream is closed then.
   */
  static async connect(stream: Duplex, version: ProtocolVersion, peer: string): Promise<WorkerClient> {
    const channel = new Channel(stream, { peer });
    try {
      return new WorkerClient(channel, await channel.run(clientHandshake({ version })));
    } catch (error) {
      channel.destroy();
      throw error;
    }
  }

  /** Aborts when the daemon has closed the connection. */
  get gone(): AbortSignal {
    return this.channel.gone;
  }

  get version(): ProtocolVersion {
    return this.handshake.version;
  }

  /** Which of `paths` are valid; with `substitute`, after the daemon has tried to substitute the others. */
  async queryValidPaths(paths: readonly StorePath[], substitute = false): Promise<StorePath[]> {
    if (paths.length === 0) return [];
    return await this.#request(encodeQueryValidPaths({ paths, substitute }), decodeStorePathsResponse());
  }

  /** What is known about each path, in order; `undefined` for one that is not valid. */
  async queryPathInfos(paths: readonly StorePath[]): Promise<(PathInfo | undefined)[]> {
    return await this.#pipeline(paths, encodeQueryPathInfo, () => decodePathInfoResponse(this.version));
  }

  /** Keeps the paths, valid or not, from being collected for as long as this connection lives. */
  async addTempRoots(paths: readonly StorePath[]): Promise<void> {
    await this.#pipeline(paths, encodeAddTempRoot, decodeDoneResponse);
  }

  /** The paths of each derivation's outputs by name, as far as they are known. The derivations must be valid. */
  async queryDerivationOutputs(
    derivations: readonly StorePath[],
  ): Promise<Map<string, StorePath | undefined>[]> {
    return await this.#pipeline(derivations, encodeQueryDerivationOutputMap, () => decodeOutputMapResponse());
  }

  /**
   * The NAR of a valid path. Whoever stops reading early leaves the connection usable: the rest is thrown away.
   * @param narSize bytes of the NAR, as its path info says: nothing else on the wire tells where it ends.
   */
  async *narFromPath(path: StorePath, narSize: number): AsyncGenerator<Uint8Array, void, undefined> {
    await this.channel.write(encodeNarFromPath(path));
    await this.#drainFrames();
    let left = narSize;
    const read = async (): Promise<readonly Uint8Array[]> => {
      const parts = await this.channel.readSome(Math.min(left, NAR_CHUNK_BYTES));
      left = parts.length === 0 ? 0 : left - parts.reduce((sum, { length }) => sum + length, 0);
      return parts;
    };
    try {
      while (left > 0) {
        const before = left;
        const parts = await read();
        if (parts.length === 0) {
          throw new DroverError('NAR_TRUNCATED', `The NAR of ${path} ended ${before} bytes early`, {
            context: { path, left: before },
          });
        }
        yield* parts;
      }
    } finally {
      while (left > 0) await read();
    }
  }

  /** Adds a path whose references are valid there. Signatures are not asked for: the caller vouches for the path. */
  async addToStoreNar(info: ValidPathInfo, nar: AsyncIterable<Uint8Array>): Promise<void> {
    await this.#mutex.run(async () => {
      await this.channel.write(encodeAddToStoreNar({ info, repair: false, dontCheckSignatures: true }));
      for await (const chunk of nar) await this.channel.write(encodeFrame(chunk));
      await this.channel.write(encodeFrameEnd());
      await this.#drainFrames();
    });
  }

  /** Sends a request that is answered by log frames alone, as it is. */
  async forward(request: readonly Uint8Array[]): Promise<void> {
    await this.#mutex.run(async () => {
      for (const part of request) await this.channel.write(part);
      await this.#drainFrames();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.channel.destroy();
    return Promise.resolve();
  }

  async #request<T>(request: Uint8Array, response: Decoder<T>): Promise<T> {
    return await this.#mutex.run(async () => {
      await this.channel.write(request);
      await this.#drainFrames();
      return await this.channel.run(response);
    });
  }

  async #pipeline<A, T>(
    items: readonly A[],
    encode: (item: A) => Buffer,
    decode: () => Decoder<T>,
  ): Promise<T[]> {
    return await this.#mutex.run(async () => {
      const results: T[] = [];
      for (let start = 0; start < items.length; start += PIPELINED_REQUESTS) {
        const batch = items.slice(start, start + PIPELINED_REQUESTS);
        await this.channel.write(Buffer.concat(batch.map(encode)));
        let refused: ProtocolError | undefined;
        for (let i = 0; i < batch.length; i++) {
          // One request's error is not the end of the others' answers, which are on their way.
          const error = await this.#readFrames();
          if (error === undefined) results.push(await this.channel.run(decode()));
          else refused ??= remoteError(error);
        }
        if (refused !== undefined) throw refused;
      }
      return results;
    });
  }

  /** Reads log frames up to the response. @throws ProtocolError `PROTOCOL_REMOTE_ERROR` for the daemon's error */
  async #drainFrames(): Promise<void> {
    const error = await this.#readFrames();
    if (error !== undefined) throw remoteError(error);
  }

  /** @returns the daemon's error, if that is what the frames end with */
  async #readFrames(): Promise<RemoteErrorInfo | undefined> {
    for (;;) {
      const frame = await this.channel.run(decodeStderrFrame());
      if (frame.kind === 'last') return undefined;
      if (frame.kind === 'error') return frame.error;
    }
  }
}
