import type { Duplex } from 'node:stream';

import type { Clock } from '../lib/clock.js';
import { DroverError, errorCode } from '../lib/errors.js';
import { count } from '../lib/human.js';
import { Mutex } from '../lib/mutex.js';
import { inTurns, Turns } from '../lib/turns.js';
import { Channel, type Received } from './channel.js';
import { encodeFrame, encodeFrameEnd } from '../protocol/framed.js';
import { clientHandshake, type ClientHandshake } from '../protocol/handshake.js';
import {
  encodeAddTempRoot,
  encodeNarFromPath,
  encodeQueryDerivationOutputMap,
  encodeQueryPathInfo,
  encodeQueryValidPaths,
} from '../protocol/operations.js';
import { NarCheck, type NarFacts } from '../protocol/nar-check.js';
import type { PathInfo, ValidPathInfo } from '../protocol/path-info.js';
import {
  decodeDoneResponse,
  decodeOutputMapResponse,
  decodePathInfoResponse,
  decodeStorePathsResponse,
} from '../protocol/responses.js';
import { ProtocolError } from '../protocol/protocol-error.js';
import { decodeStderrFrame, remoteError, type RemoteErrorInfo } from '../protocol/stderr.js';
import type { StorePath } from '../protocol/store-path.js';
import { encodeAddToStoreNar } from '../protocol/data-requests.js';
import type { ProtocolVersion } from '../protocol/version.js';
import type { Decoder } from '../protocol/wire.js';

/**
 * Number of requests sent before the first response is read: a round trip per path would cost more than its
 * answer.
 */
const PIPELINED_REQUESTS = 256;
/** Paths that one request asks about: more would keep the event loop while they are written. */
const PATHS_PER_QUESTION = 500;

/** End of an operation: its response, or the daemon's error. */
type Answer<T> = { readonly value: T } | { readonly error: RemoteErrorInfo };

/**
 * A client of a nix-daemon, the host's or a guest's. Operations run one after the other, in the order of
 * their calls.
 *
 * INVARIANT: no byte of one answer becomes part of another. An exchange that does not complete closes the
 * connection, and `reusable` is true only if every exchange completed and no byte is left over.
 */
export class WorkerClient implements AsyncDisposable {
  readonly channel: Channel;
  readonly handshake: ClientHandshake;
  readonly #clock: Clock | undefined;
  readonly #peer: string;
  readonly #mutex = new Mutex();
  #exchanges = 0;
  #settingsChanged = false;

  private constructor(channel: Channel, peer: string, handshake: ClientHandshake, clock: Clock | undefined) {
    this.#clock = clock;
    this.channel = channel;
    this.#peer = peer;
    this.handshake = handshake;
  }

  /**
   * @param version the highest version to agree on.
   * @param peer name of the daemon in errors: `The nix-daemon of …`.
   * @param clock disposal waits on it, 5 s at most, until the daemon has ended the connection, and with it its pins;
   *   undefined: disposal waits for nothing.
   * @throws ProtocolError as `clientHandshake`; the stream is closed then.
   */
  static async connect(
    stream: Duplex,
    version: ProtocolVersion,
    peer: string,
    clock?: Clock,
  ): Promise<WorkerClient> {
    const channel = new Channel(stream, { peer });
    try {
      return new WorkerClient(channel, peer, await channel.run(clientHandshake({ version })), clock);
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

  /**
   * Whether another session can use the connection like a new one: no request is in flight, no input is
   * unread, and no setting was changed.
   */
  get reusable(): boolean {
    return (
      !this.gone.aborted && this.#exchanges === 0 && !this.#settingsChanged && this.channel.unreadBytes === 0
    );
  }

  /**
   * Runs one request and its whole response over the channel itself. If `run` fails, the connection is
   * closed: the rest of the response could be mistaken for the response to the next request.
   */
  async exchange<T>(run: (channel: Channel) => Promise<T>): Promise<T> {
    const end = await this.#begin();
    try {
      const result = await run(this.channel);
      end('complete');
      return result;
    } catch (error) {
      end('cut');
      throw error;
    }
  }

  /** Which of `paths` are valid; with `substitute`, after the daemon has tried to substitute the others. */
  async queryValidPaths(paths: readonly StorePath[], substitute = false): Promise<StorePath[]> {
    const valid: StorePath[] = [];
    for (let start = 0; start < paths.length; start += PATHS_PER_QUESTION) {
      const some = paths.slice(start, start + PATHS_PER_QUESTION);
      const request = encodeQueryValidPaths({ paths: some, substitute });
      const answer = await this.#request(request, decodeStorePathsResponse());
      await inTurns(answer, (path) => valid.push(path));
    }
    return valid;
  }

  /** Metadata of each path, in order; `undefined` for one that is not valid. */
  async queryPathInfos(paths: readonly StorePath[]): Promise<(PathInfo | undefined)[]> {
    return await this.#pipeline(paths, encodeQueryPathInfo, () => decodePathInfoResponse(this.version));
  }

  /** Keeps the paths, valid or not, from being collected for as long as this connection lives. */
  async addTempRoots(paths: readonly StorePath[]): Promise<void> {
    await this.#pipeline(paths, encodeAddTempRoot, decodeDoneResponse);
  }

  /** The paths of each derivation's outputs by name, where known. The derivations must be valid. */
  async queryDerivationOutputs(
    derivations: readonly StorePath[],
  ): Promise<Map<string, StorePath | undefined>[]> {
    return await this.#pipeline(derivations, encodeQueryDerivationOutputMap, () => decodeOutputMapResponse());
  }

  /**
   * Returns the NAR of a valid path, compared with its path info. A caller that stops early leaves the
   * connection usable: the rest is discarded.
   * @throws NarInvalidError before the last bytes of a wrong NAR are returned; DroverError `NAR_TRUNCATED`
   */
  async *narFromPath(path: StorePath, facts: NarFacts): AsyncGenerator<Uint8Array, void, undefined> {
    const end = await this.#begin();
    const nar = new NarCheck(path, facts);
    let refused: RemoteErrorInfo | undefined;
    let failed = false;
    try {
      await this.channel.write(encodeNarFromPath(path));
      refused = await readFrames(this.channel);
      while (refused === undefined && !nar.complete) yield* await this.#readNar(path, nar);
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      try {
        while (!failed && refused === undefined && !nar.complete) await this.#readNar(path, nar);
      } catch {
        // The caller did not want the rest anyway.
        failed = true;
      } finally {
        end(failed ? 'cut' : 'complete');
      }
    }
    if (refused !== undefined) throw remoteError(refused);
  }

  async #readNar(path: StorePath, nar: NarCheck): Promise<readonly Uint8Array[]> {
    try {
      return await this.channel.readWithin(nar);
    } catch (error) {
      throw errorCode(error) === 'PROTOCOL_TRUNCATED' ? truncated(path, nar.bytes) : error;
    }
  }

  /** Adds a path whose references are valid there. Signatures are not checked: the caller vouches for the path. */
  async addToStoreNar(info: ValidPathInfo, nar: AsyncIterable<Uint8Array>): Promise<void> {
    await this.#ask(async (channel) => {
      await channel.write(encodeAddToStoreNar({ info, repair: false, dontCheckSignatures: true }));
      for await (const chunk of nar) await channel.write(encodeFrame(chunk));
      await channel.write(encodeFrameEnd());
    });
  }

  /** Sends the client's SetOptions request unchanged. */
  async setOptions(request: readonly Uint8Array[]): Promise<void> {
    this.#settingsChanged = true;
    await this.#ask(async (channel) => {
      for (const part of request) await channel.write(part);
    });
  }

  /**
   * Asks with bytes that a client has sent.
   * @param response reads what follows the last log frame, in the version of this connection
   * @returns the response with its bytes
   * @throws ProtocolError `PROTOCOL_REMOTE_ERROR` for an error in its place
   */
  async ask<T>(
    request: readonly Uint8Array[],
    response: (version: ProtocolVersion) => Decoder<T>,
  ): Promise<Received<T>> {
    const answer = await this.exchange(async (channel): Promise<Answer<Received<T>>> => {
      for (const part of request) await channel.write(part);
      const error = await readFrames(channel);
      return error === undefined ? { value: await channel.receive(response(this.version)) } : { error };
    });
    if ('error' in answer) throw remoteError(answer.error);
    return answer.value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { stream } = this.channel;
    if (this.#clock === undefined || stream.closed) {
      this.channel.destroy();
      return;
    }
    const closed = new Promise<void>((resolve) => stream.once('close', resolve));
    this.channel.close(this.#clock);
    await closed;
  }

  /**
   * Waits for its turn. An exchange that was cut, or that never ends, makes the connection unusable; so do bytes that
   * belong to none.
   * @throws ProtocolError `PROTOCOL_MALFORMED`
   */
  async #begin(): Promise<(how: 'complete' | 'cut') => void> {
    const release = await this.#mutex.acquire();
    this.#exchanges += 1;
    const end = (how: 'complete' | 'cut'): void => {
      if (how === 'complete' && this.channel.unreadBytes === 0) this.#exchanges -= 1;
      else this.channel.destroy();
      release();
    };
    if (this.channel.unreadBytes === 0) return end;
    end('cut');
    throw new ProtocolError('PROTOCOL_MALFORMED', `${this.#peer} sent something that it was not asked for`);
  }

  async #request<T>(request: Uint8Array, response: Decoder<T>): Promise<T> {
    return await this.#ask((channel) => channel.write(request), response);
  }

  async #ask(send: (channel: Channel) => Promise<void>): Promise<void>;
  async #ask<T>(send: (channel: Channel) => Promise<void>, response: Decoder<T>): Promise<T>;
  async #ask<T>(send: (channel: Channel) => Promise<void>, response?: Decoder<T>): Promise<T | undefined> {
    const answer = await this.exchange(async (channel): Promise<Answer<T | undefined>> => {
      await send(channel);
      const error = await readFrames(channel);
      if (error !== undefined) return { error };
      return { value: response === undefined ? undefined : await channel.run(response) };
    });
    if ('error' in answer) throw remoteError(answer.error);
    return answer.value;
  }

  async #pipeline<A, T>(
    items: readonly A[],
    encode: (item: A) => Buffer,
    decode: () => Decoder<T>,
  ): Promise<T[]> {
    const results: T[] = [];
    for (let start = 0; start < items.length; start += PIPELINED_REQUESTS) {
      const batch = items.slice(start, start + PIPELINED_REQUESTS);
      const refused = await this.exchange(async (channel) => {
        await channel.write(Buffer.concat(batch.map(encode)));
        let first: RemoteErrorInfo | undefined;
        const turns = new Turns();
        for (let i = 0; i < batch.length; i++) {
          // One request's error does not end the others' answers, which are in flight.
          const error = await readFrames(channel);
          if (error === undefined) results.push(await channel.run(decode()));
          else first ??= error;
          const pause = turns.next();
          if (pause !== undefined) await pause;
        }
        return first;
      });
      if (refused !== undefined) throw remoteError(refused);
    }
    return results;
  }
}

/**
 * Reads log frames up to the response.
 * @returns the daemon's error, if the frames end with one
 */
async function readFrames(channel: Channel): Promise<RemoteErrorInfo | undefined> {
  for (;;) {
    const frame = await channel.run(decodeStderrFrame());
    if (frame.kind === 'last') return undefined;
    if (frame.kind === 'error') return frame.error;
  }
}

function truncated(path: StorePath, bytes: number): DroverError {
  return new DroverError('NAR_TRUNCATED', `The NAR of ${path} broke off after ${count(bytes, 'byte')}`, {
    context: { path, bytes },
  });
}
