import { COALESCE_BELOW_BYTES, COALESCE_BLOCK_BYTES, COALESCE_FIRST_BYTES } from './limits.js';

/** Finds the end of data that only its own contents tell. */
export interface Extent {
  /** The end has been reached. */
  readonly complete: boolean;
  /**
   * Accepts the next bytes.
   * @returns how many of them belong to the data: all, unless it ends among them
   * @throws if they cannot be part of it
   */
  take(bytes: Uint8Array): number;
}

/** Everything up to the end of the stream. */
export const UNENDING: Extent = { complete: false, take: ({ length }) => length };

/**
 * Bytes that have arrived and have not been read yet. Long chunks are kept as they are; short ones are copied
 * together, so that memory stays in proportion to the bytes held, however the peer splits them. No byte is
 * copied more than twice.
 *
 * INVARIANT: `length` is the sum of the lengths of the chunks from `#head` on, the first counted from
 * `#offset`.
 */
export class ByteQueue {
  #chunks: Uint8Array[] = [];
  #head = 0;
  #offset = 0;
  #length = 0;
  /** Block for short chunks, while the last chunk is the filled part of it. */
  #block: Uint8Array | undefined;
  #filled = 0;
  /** Size of the next block, in bytes. */
  #blockBytes = COALESCE_FIRST_BYTES;

  /** Bytes that can be taken. */
  get length(): number {
    return this.#length;
  }

  /** Appends a chunk. It must not be changed afterwards: what `take` returns may be a view of it. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#length += chunk.length;
    if (chunk.length >= COALESCE_BELOW_BYTES) {
      this.#chunks.push(chunk);
      this.#block = undefined;
      return;
    }
    if (this.#block === undefined || this.#filled + chunk.length > this.#block.length) {
      this.#startBlock(chunk);
    } else {
      this.#extendBlock(this.#block, chunk);
    }
  }

  /** The next `count` bytes, as one array, or `undefined` while fewer are here. */
  take(count: number): Uint8Array | undefined {
    if (count > this.#length) return undefined;
    const first = this.#chunks[this.#head];
    if (first !== undefined && first.length - this.#offset >= count) {
      const view = first.subarray(this.#offset, this.#offset + count);
      this.#advance(first, count);
      return view;
    }
    const joined = Buffer.allocUnsafe(count);
    let filled = 0;
    for (const part of this.takeParts(count)) {
      joined.set(part, filled);
      filled += part.length;
    }
    return joined;
  }

  /** The next `count` bytes, or all when there are fewer, as views in order: nothing is copied. */
  takeParts(count: number = this.#length): Uint8Array[] {
    const parts: Uint8Array[] = [];
    let left = Math.min(count, this.#length);
    while (left > 0) {
      const chunk = this.#chunks[this.#head];
      if (chunk === undefined) break;
      const end = Math.min(chunk.length, this.#offset + left);
      const part = chunk.subarray(this.#offset, end);
      parts.push(part);
      left -= part.length;
      this.#advance(chunk, part.length);
    }
    return parts;
  }

  /**
   * The next bytes that belong to the data, as views in order. Bytes after its end stay queued.
   * @throws what `extent` throws
   */
  takeWithin(extent: Extent): Uint8Array[] {
    const parts: Uint8Array[] = [];
    while (!extent.complete && this.#length > 0) {
      const chunk = this.#chunks[this.#head];
      if (chunk === undefined) break;
      const view = chunk.subarray(this.#offset);
      const count = extent.take(view);
      if (count > 0) parts.push(view.subarray(0, count));
      this.#advance(chunk, count);
      if (count < view.length) break;
    }
    return parts;
  }

  /** Puts bytes back, before all others. */
  unshift(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    const first = this.#chunks[this.#head];
    if (first !== undefined && this.#offset > 0) this.#chunks[this.#head] = first.subarray(this.#offset);
    this.#offset = 0;
    // Short chunks are copied to the end of what the last one was, not of what is left of it.
    this.#block = undefined;
    if (this.#head > 0) this.#chunks[--this.#head] = chunk;
    else this.#chunks.unshift(chunk);
    this.#length += chunk.length;
  }

  #advance(chunk: Uint8Array, count: number): void {
    this.#offset += count;
    this.#length -= count;
    if (this.#offset < chunk.length) return;
    this.#offset = 0;
    this.#head += 1;
    if (this.#head === this.#chunks.length) {
      this.#chunks = [];
      this.#head = 0;
      this.#block = undefined;
    } else if (this.#head >= 1024 && this.#head * 2 >= this.#chunks.length) {
      this.#chunks.splice(0, this.#head);
      this.#head = 0;
    }
  }

  /** The first blocks are small, and cut from Node's own pool: most messages are short and read at once. */
  #startBlock(chunk: Uint8Array): void {
    if (this.#head === this.#chunks.length) this.#blockBytes = COALESCE_FIRST_BYTES;
    const block = Buffer.allocUnsafe(Math.max(this.#blockBytes, chunk.length));
    this.#blockBytes = Math.min(this.#blockBytes * 16, COALESCE_BLOCK_BYTES);
    block.set(chunk);
    this.#block = block;
    this.#filled = chunk.length;
    this.#chunks.push(block.subarray(0, this.#filled));
  }

  #extendBlock(block: Uint8Array, chunk: Uint8Array): void {
    block.set(chunk, this.#filled);
    this.#filled += chunk.length;
    this.#chunks[this.#chunks.length - 1] = block.subarray(0, this.#filled);
  }
}
