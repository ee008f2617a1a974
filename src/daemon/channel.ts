import type { Duplex } from 'node:stream';

import { afterAwake, type CancelTimer, type Clock } from '../lib/clock.js';
import { DroverError } from '../lib/errors.js';
import { isInSharedBuffer, reusesItsBuffer } from '../lib/unix-socket.js';
import { ByteQueue, UNENDING, type Extent } from '../protocol/byte-queue.js';
import { Feeder } from '../protocol/feeder.js';
import { ProtocolError } from '../protocol/protocol-error.js';
import type { Conversation } from '../protocol/wire.js';

/** Bytes that may wait to be decoded before the stream is paused. */
const HIGH_WATER_BYTES = 256 * 1024;
/** Time for a peer to read the last bytes that it was sent, in milliseconds. */
const LINGER_MS = 5_000;
/** The same for a peer that had stopped in the middle of a message: it reads only when it goes on. */
const STALLED_LINGER_MS = 600_000;

export interface ChannelOptions {
  /** Name of the other end in errors: `The client`. */
  readonly peer?: string;
  /** Time limit for a peer to continue a message that it has begun. Between messages there is no limit. */
  readonly stall?: { readonly clock: Clock; readonly timeoutMs: number };
  /** Ends the stream, if that takes more than its `end`. */
  readonly end?: (() => void) | undefined;
  /** Told how many bytes are held of the message that is received or served. May throw: it is too much. */
  readonly hold?: ((bytes: number) => void) | undefined;
}

/**
 * Asked each time a peer has paused in the middle of a message for as long as it usually may.
 * @param pausedMs milliseconds since its last byte
 * @returns whether it may go on pausing
 */
export type MayPause = (pausedMs: number) => boolean;

export interface Received<T> {
  readonly value: T;
  /** The bytes of the message, exactly. Empty unless captured. */
  readonly raw: readonly Uint8Array[];
}

/**
 * One end of a worker-protocol connection: runs conversations over a byte stream, one at a time. It always
 * reads a little ahead, so that it notices when the peer closes the connection even while nothing is being
 * decoded.
 *
 * Some streams cannot tell whether they are still open (a closed ssh2 channel accepts writes and never
 * finishes them), so the channel relies on the events that it has seen.
 */
export class Channel {
  readonly stream: Duplex;
  readonly #options: ChannelOptions;
  readonly #queue = new ByteQueue();
  readonly #reused: boolean;
  readonly #gone = new AbortController();
  #ended = false;
  /** The stream accepts no more bytes. */
  #closed = false;
  /** The peer ended the connection before this side did. */
  #hungUp = false;
  /** Input is discarded. */
  #discarding = false;
  /** Why the stream failed. */
  #error: unknown;
  /** Why this side stopped reading, though the stream may be fine. */
  #interruption: Error | undefined;
  #wake: (() => void) | undefined;
  /** Receives input in place of the queue. */
  #sink: ((chunk: Uint8Array) => void) | undefined;
  #onWritable: (() => void)[] = [];
  /** Bytes received and sent. */
  receivedBytes = 0;
  sentBytes = 0;

  constructor(stream: Duplex, options: ChannelOptions = {}) {
    this.stream = stream;
    this.#options = options;
    this.#reused = reusesItsBuffer(stream);
    stream.on('data', this.#onData);
    stream.on('end', this.#onEnd);
    stream.on('drain', this.#wakeWriters);
    stream.on('close', this.#onClose);
    stream.on('error', this.#onError);
    stream.resume();
  }

  /** Aborts when the peer has closed its side, or the stream has failed. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Whether the peer ended the connection, rather than this side. */
  get hungUp(): boolean {
    return this.#hungUp;
  }

  /** Number of bytes that have been received and not been decoded. */
  get unreadBytes(): number {
    return this.#queue.length;
  }

  /** The error that interrupted reading, if any: it is the cause of every later failure. */
  get interruption(): Error | undefined {
    return this.#interruption;
  }

  readonly #onData = (chunk: Uint8Array): void => {
    this.receivedBytes += chunk.length;
    if (this.#discarding) return;
    if (this.#sink !== undefined) {
      this.#sink(chunk);
      return;
    }
    this.#keep(chunk);
    if (this.#queue.length >= HIGH_WATER_BYTES) this.stream.pause();
    this.#wake?.();
  };

  #keep(chunk: Uint8Array): void {
    this.#queue.push(this.#reused ? Buffer.from(chunk) : chunk);
  }

  readonly #onEnd = (): void => {
    this.#hungUp ||= !this.#ended;
    this.#end();
  };

  #end(): void {
    this.#ended = true;
    this.#gone.abort();
    this.#wake?.();
  }

  readonly #onClose = (): void => {
    this.#closed = true;
    this.#onEnd();
    this.#wakeWriters();
  };

  readonly #onError = (error: unknown): void => {
    this.#error ??= error;
    this.#onClose();
  };

  readonly #wakeWriters = (): void => {
    for (const wake of this.#onWritable.splice(0)) wake();
  };

  /**
   * Runs one conversation to its end.
   * @throws ProtocolError `PROTOCOL_TRUNCATED` if the peer ends in the middle of it, with the stream's own
   *   failure as the cause; `CLIENT_STALLED`; and whatever the conversation throws.
   */
  async run<T>(conversation: Conversation<T>): Promise<T> {
    return (await this.receive(conversation, false)).value;
  }

  /** Like `run`, and returns the bytes of the message too. */
  async receive<T>(conversation: Conversation<T>, capture = true): Promise<Received<T>> {
    const feeder = new Feeder(conversation, this.#queue, { capture });
    const held = this.measure();
    for (;;) {
      let progress;
      try {
        progress = feeder.feed();
      } catch (error) {
        for (const bytes of feeder.unsent()) await this.write(bytes).catch(() => undefined);
        throw error;
      }
      this.#resume();
      for (const bytes of progress.send) await this.write(bytes);
      if (progress.done) return { value: progress.value, raw: feeder.raw() };
      held();
      if (!(await this.#waitForMore())) throw this.#cut('closed the connection in the middle of a message');
    }
  }

  /** Begins to count the bytes of a message that is held whole. @returns a function to call as more of it comes */
  measure(): () => void {
    const { hold } = this.#options;
    if (hold === undefined) return () => undefined;
    const before = this.receivedBytes - this.#queue.length;
    hold(0);
    return () => {
      hold(this.receivedBytes - before);
    };
  }

  /**
   * Waits for a message: false if the peer has ended. The one before is held no longer.
   * @throws the error of `interrupt`
   */
  async waitForInput(): Promise<boolean> {
    this.#options.hold?.(0);
    return await this.#waitFor(1);
  }

  /**
   * Up to `maxBytes` of a message's data, at least one byte; empty at the end of the stream.
   * @throws DroverError `CLIENT_STALLED`
   */
  async readSome(maxBytes: number = HIGH_WATER_BYTES, mayPause?: MayPause): Promise<readonly Uint8Array[]> {
    return this.#queue.length > 0 || (await this.#waitForMore(mayPause)) ? this.#take(maxBytes) : [];
  }

  /**
   * Some of the data that `extent` measures: nothing once it is complete. What follows it stays unread.
   * @throws as `run`, and what `extent` throws
   */
  async readWithin(extent: Extent): Promise<readonly Uint8Array[]> {
    if (extent.complete) return [];
    if (this.#queue.length === 0 && !(await this.#waitForMore())) {
      throw this.#cut('closed the connection in the middle of a message');
    }
    const parts = this.#queue.takeWithin(extent);
    this.#resume();
    return parts;
  }

  /** Puts bytes back that were read and belong to what follows. */
  unread(bytes: Uint8Array): void {
    this.#queue.unshift(bytes);
  }

  /** Makes all reads fail with `error`. The peer can still be told why. */
  interrupt(error: Error): void {
    this.#interruption ??= error;
    this.#end();
  }

  /** Sends bytes, waiting while the peer is slow. @throws ProtocolError `PROTOCOL_TRUNCATED` */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#isClosed()) throw this.#cut('closed the connection');
    this.sentBytes += bytes.length;
    this.#gather();
    if (this.stream.write(bytes)) return;
    await new Promise<void>((resolve) => this.#onWritable.push(resolve));
    if (this.#isClosed()) throw this.#cut('closed the connection');
  }

  /** Sends writes of one turn together: each separate piece would wake up every process on its way. */
  #gather(): void {
    if (this.stream.writableCorked > 0) return;
    this.stream.cork();
    process.nextTick(() => {
      this.stream.uncork();
    });
  }

  /**
   * Sends what comes on to `other`: the data that `extent` measures, or everything until this side ends.
   * @returns how many bytes that were; `extent` tells whether they are all
   * @throws ProtocolError `PROTOCOL_TRUNCATED` when `other` takes no more; what `extent` throws, and nothing of the
   *   bytes that it threw for has been sent then
   */
  async relayTo(other: Channel, extent: Extent = UNENDING): Promise<number> {
    let moved = 0;
    while (this.#queue.length > 0 && !extent.complete) {
      for (const part of await this.readWithin(extent)) {
        moved += part.length;
        await other.write(part);
      }
    }
    if (!extent.complete && !this.#ended) moved += await this.#pour(other, extent);
    if (!extent.complete && this.#interruption !== undefined) throw this.#interruption;
    return moved;
  }

  /** Forwards input that has not arrived yet. No promise per chunk: large outputs consist of many. */
  async #pour(other: Channel, extent: Extent): Promise<number> {
    let moved = 0;
    const poured = new Promise<void>((resolve, reject) => {
      this.#wake = () => {
        if (this.#ended) resolve();
      };
      this.#sink = (chunk) => {
        let count = 0;
        try {
          if (!extent.complete) count = extent.take(chunk);
        } catch (error) {
          this.stream.pause();
          reject(error instanceof Error ? error : new Error(String(error)));
          return;
        }
        const taken = count === chunk.length ? chunk : chunk.subarray(0, count);
        const part = isInSharedBuffer(taken) ? Buffer.from(taken) : taken;
        moved += count;
        if (count < chunk.length) this.#keep(chunk.subarray(count));
        if (other.#isClosed()) resolve();
        if (count === 0 || other.#isClosed()) return;
        other.sentBytes += count;
        // Bytes not yet written would be overwritten by the next read.
        const inFlight = (): boolean => this.#reused && other.stream.writableLength > 0 && !other.#isClosed();
        const goOn = (): void => {
          if (inFlight()) return;
          if (extent.complete) resolve();
          else this.stream.resume();
        };
        const hasRoom = other.stream.write(part, this.#reused ? goOn : undefined);
        if (hasRoom && !inFlight()) {
          if (extent.complete) resolve();
          return;
        }
        this.stream.pause();
        other.#onWritable.push(goOn);
      };
      this.#resume(true);
    });
    try {
      await poured;
    } finally {
      this.#sink = undefined;
      this.#wake = undefined;
    }
    if (other.#isClosed()) throw other.#cut('closed the connection');
    return moved;
  }

  /** Sends the remaining bytes, and ends this side. */
  end(): void {
    if (this.#options.end === undefined) this.stream.end();
    else this.#options.end();
  }

  /**
   * Ends this side and the connection: at once if the peer has ended its own side; otherwise the peer gets a
   * moment to read the last bytes that it was sent, while its input is discarded.
   */
  close(clock: Clock): void {
    this.#discarding = true;
    this.#end();
    this.end();
    if (this.#closed || this.stream.destroyed) return;
    const lingerMs = this.#interruption === undefined ? LINGER_MS : STALLED_LINGER_MS;
    this.stream.once('close', clock.after(lingerMs, this.destroy.bind(this)));
    this.stream.resume();
  }

  /** Closes the connection and drops bytes in flight. */
  destroy(): void {
    this.#end();
    this.stream.destroy();
    this.#onClose();
  }

  #isClosed(): boolean {
    return this.#closed || this.stream.destroyed || this.stream.writableEnded;
  }

  /** Waits for more bytes of a message. */
  async #waitForMore(mayPause?: MayPause): Promise<boolean> {
    const { stall } = this.#options;
    const cancel = stall === undefined ? undefined : this.#limit(stall, mayPause);
    try {
      return await this.#waitFor(this.#queue.length + 1);
    } finally {
      cancel?.();
    }
  }

  /** Interrupts reading when the peer's time is up. @returns a function that ends the limit */
  #limit({ clock, timeoutMs }: NonNullable<ChannelOptions['stall']>, mayPause?: MayPause): CancelTimer {
    const since = clock.now();
    let isOver = false;
    let cancel = (): void => undefined;
    const decide = (): void => {
      const pausedMs = clock.now() - since;
      if (isOver) return;
      if (mayPause?.(pausedMs) === true) arm();
      else this.interrupt(this.#stalled(pausedMs));
    };
    const arm = (): void => {
      // Timers come before input in a turn of the event loop: bytes may be waiting to be read.
      cancel = afterAwake(clock, timeoutMs, () => setImmediate(decide));
    };
    arm();
    return () => {
      isOver = true;
      cancel();
    };
  }

  async #waitFor(bytes: number): Promise<boolean> {
    while (this.#queue.length < bytes) {
      if (this.#interruption !== undefined) throw this.#interruption;
      if (this.#ended) return false;
      this.#resume(true);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    return true;
  }

  #take(maxBytes: number): readonly Uint8Array[] {
    const parts = this.#queue.takeParts(maxBytes);
    this.#resume();
    return parts;
  }

  #resume(force = false): void {
    if (this.stream.isPaused() && (force || this.#queue.length < HIGH_WATER_BYTES) && !this.#ended)
      this.stream.resume();
  }

  #cut(how: string): ProtocolError {
    const cause = this.#error;
    return new ProtocolError(
      'PROTOCOL_TRUNCATED',
      `${this.#options.peer ?? 'The peer'} ${how}`,
      cause === undefined ? {} : { cause },
    );
  }

  #stalled(pausedMs: number): DroverError {
    return new DroverError(
      'CLIENT_STALLED',
      `${this.#options.peer ?? 'The peer'} stopped in the middle of a message for ${Math.round(pausedMs / 1000)} s`,
      { hint: 'The connection was closed; the build can be started again.' },
    );
  }
}
