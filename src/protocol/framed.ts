import { ByteQueue } from './byte-queue.js';
import { malformed } from './protocol-error.js';
import { decodeAll, u64 } from './wire.js';
import { WireWriter } from './wire-writer.js';

/** Contents of one chunk of a framed stream. */
export interface Unframed {
  /** Pieces of the payload, in order, as views of the chunk. */
  readonly payload: readonly Uint8Array[];
  /** The end of the stream was seen; `rest` follows it. */
  readonly ended: boolean;
  readonly rest: Uint8Array;
}

const NOTHING = new Uint8Array(0);

/**
 * Removes the frames from a stream of data: each is a length and as many bytes, unpadded, and a length of 0
 * ends the stream (`FramedSource` in serialise.hh). A frame is not held in memory, whatever length it claims.
 */
export class FrameParser {
  readonly #header = new ByteQueue();
  #leftInFrame = 0;
  #ended = false;

  /** Whether the end was seen. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Number of bytes to push, at least 1, before it is known whether the stream continues; 0 once it has
   * ended.
   */
  get wantedBytes(): number {
    if (this.#ended) return 0;
    return this.#leftInFrame > 0 ? this.#leftInFrame : 8 - this.#header.length;
  }

  /**
   * @throws ProtocolError `PROTOCOL_MALFORMED` for a frame of 2^53 bytes or more: no stream is that long, and the
   *   length could not be counted exactly.
   */
  push(chunk: Uint8Array): Unframed {
    const payload: Uint8Array[] = [];
    let at = 0;
    while (at < chunk.length && !this.#ended) {
      if (this.#leftInFrame > 0) {
        const end = Math.min(chunk.length, at + this.#leftInFrame);
        payload.push(chunk.subarray(at, end));
        this.#leftInFrame -= end - at;
        at = end;
      } else {
        const end = Math.min(chunk.length, at + 8 - this.#header.length);
        this.#header.push(chunk.subarray(at, end));
        at = end;
        this.#openFrame();
      }
    }
    return { payload, ended: this.#ended, rest: at < chunk.length ? chunk.subarray(at) : NOTHING };
  }

  #openFrame(): void {
    const header = this.#header.take(8);
    if (header === undefined) return;
    const length = decodeAll(u64(), header);
    if (length > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed('A frame is impossibly long');
    this.#leftInFrame = Number(length);
    this.#ended = length === 0n;
  }
}

/** Header of a frame of `length` bytes (> 0: a length of 0 would end the stream). */
export function encodeFrameHeader(length: number): Buffer {
  if (length === 0) throw malformed('A frame cannot be empty: that is how a stream ends');
  return new WireWriter().u64(length).finish();
}

/** One frame, header and payload together; nothing at all for an empty payload. */
export function encodeFrame(payload: Uint8Array): Buffer {
  if (payload.length === 0) return Buffer.alloc(0);
  return new WireWriter().u64(payload.length).raw(payload).finish();
}

/** End of a framed stream. */
export function encodeFrameEnd(): Buffer {
  return new WireWriter().u64(0).finish();
}
