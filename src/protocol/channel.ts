import { once } from 'node:events';
import type { Duplex } from 'node:stream';

import { ByteQueue } from './byte-queue.js';
import { Feeder } from './feeder.js';
import { DroverError } from '../lib/errors.js';
import { ProtocolError } from './protocol-error.js';
import type { Conversation } from './wire.js';

/** Bytes that may wait to be decoded before the stream is paused. */
const HIGH_WATER_BYTES = 256 * 1024;

export interface Received<T> {
  readonly value: T;
  /** The bytes of the message, exactly. Empty unless captured. */
  readonly raw: readonly Uint8Array[];
}

/**
 * One end of a worker-protocol connection: runs conversations over a byte stream, one at a time. It always reads a
 * little ahead, so that the peer's end is noticed even while nothing is being decoded.
 */
export class Channel {
  readonly stream: Duplex;
  readonly #queue = new ByteQueue();
  readonly #gone = new AbortController();
  #ended = false;
  /** Why nothing more can be read, if it is not the end of the stream. */
  #error: unknown;
  #wake: (() => void) | undefined;
  /** Bytes received and sent: of messages, not of what is piped after `release`. */
  receivedBytes = 0;
  sentBytes = 0;

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on('data', this.#onData);
    stream.on('end', this.#onEnd);
    stream.on('close', this.#onEnd);
    stream.on('error', this.#onError);
  }

  /** Aborts when the peer has closed its side, or the stream has failed. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  readonly #onData = (chunk: Uint8Array): void => {
    this.receivedBytes += chunk.length;
    this.#queue.push(chunk);
    if (this.#queue.length >= HIGH_WATER_BYTES) this.stream.pause();
    this.#wake?.();
  };

  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#gone.abort();
    this.#wake?.();
  };

  readonly #onError = (error: unknown): void => {
    this.#error ??= error;
    this.#onEnd();
  };

  /**
   * Runs one conversation to its end.
   * @throws ProtocolError `PROTOCOL_TRUNCATED` when the peer ends in the middle of it, and whatever it throws itself.
   *   The stream's own failure is the cause.
   */
  async run<T>(conversation: Conversation<T>): Promise<T> {
    return (await this.receive(conversation, false)).value;
  }

  /** The same, with the bytes of the message. */
  async receive<T>(conversation: Conversation<T>, capture = true): Promise<Received<T>> {
    const feeder = new Feeder(conversation, this.#queue, { capture });
    for (;;) {
      let progress;
      try {
        progress = feeder.feed();
      } catch (error) {
        for (const bytes of feeder.unsent()) await this.write(bytes);
        throw error;
      }
      this.#resume();
      for (const bytes of progress.send) await this.write(bytes);
      if (progress.done) return { value: progress.value, raw: feeder.raw() };
      if (!(await this.waitForInput(this.#queue.length + 1))) {
        if (this.#error instanceof DroverError) throw this.#error;
        try {
          feeder.end();
        } catch (error) {
          throw this.#withCause(error);
        }
      }
    }
  }

  /** Waits until `bytes` or more are here: false when the peer ended before that. */
  async waitForInput(bytes = 1): Promise<boolean> {
    while (this.#queue.length < bytes) {
      if (this.#ended) return false;
      this.#resume(true);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    return true;
  }

  /** Up to `maxBytes` of what comes next, at least one; nothing at the end of the stream. */
  async readSome(maxBytes: number = HIGH_WATER_BYTES): Promise<readonly Uint8Array[]> {
    if (!(await this.waitForInput())) return [];
    const parts = this.#queue.takeParts(maxBytes);
    this.#resume();
    return parts;
  }

  /** Makes whoever reads fail with `error`. The peer can still be told why. */
  interrupt(error: Error): void {
    this.#onError(error);
  }

  /** Sends bytes, waiting while the peer is slow. @throws ProtocolError `PROTOCOL_TRUNCATED` */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.stream.destroyed || this.stream.writableEnded) throw this.#withCause(this.#cut());
    this.sentBytes += bytes.length;
    if (this.stream.write(bytes)) return;
    try {
      await once(this.stream, 'drain', { signal: this.#closed() });
    } catch (error) {
      throw this.#withCause(this.#cut(error));
    }
  }

  /** Sends everything that still comes on to `other`, whatever it is, until this side ends. */
  async relayTo(other: Channel): Promise<void> {
    for (;;) {
      const parts = await this.readSome();
      if (parts.length === 0) return;
      for (const part of parts) await other.write(part);
    }
  }

  /** Sends what is still to be sent, and ends this side. */
  end(): void {
    this.stream.end();
  }

  /** Closes the connection, whatever is still on its way. */
  destroy(): void {
    this.stream.destroy();
  }

  /** Aborts when the stream can take no more: the peer's half-close alone is no reason to stop sending. */
  #closed(): AbortSignal {
    const controller = new AbortController();
    this.stream.once('close', () => {
      controller.abort();
    });
    if (this.stream.destroyed) controller.abort();
    return controller.signal;
  }

  #cut(cause?: unknown): ProtocolError {
    return new ProtocolError(
      'PROTOCOL_TRUNCATED',
      'The connection was closed',
      cause === undefined ? {} : { cause },
    );
  }

  #withCause(error: unknown): unknown {
    if (this.#error !== undefined && error instanceof ProtocolError && error.cause === undefined) {
      return new ProtocolError(error.code, error.message, { cause: this.#error, context: error.context });
    }
    return error;
  }

  #resume(force = false): void {
    if (this.stream.isPaused() && (force || this.#queue.length < HIGH_WATER_BYTES) && !this.#ended)
      this.stream.resume();
  }
}
