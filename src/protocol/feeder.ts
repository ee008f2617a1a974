import { ByteQueue } from './byte-queue.js';
import { ProtocolError } from './protocol-error.js';
import type { Conversation } from './wire.js';

/**
 * How far a conversation has come. `send` are bytes for the peer, in order, to be sent before anything else.
 * While it is not done, `wanted` bytes more than are queued must arrive before it can go on.
 */
export type Progress<T> =
  | { readonly done: false; readonly send: readonly Uint8Array[]; readonly wanted: number }
  | { readonly done: true; readonly send: readonly Uint8Array[]; readonly value: T };

/**
 * Runs one decoder or conversation over chunks as they arrive. What it does not consume stays in the queue: give
 * the same queue to the next message's feeder, which then starts on what is already here.
 *
 * Nothing is allocated for bytes that are only claimed, and no byte is copied more than twice.
 */
export class Feeder<T> {
  readonly #conversation: Conversation<T>;
  readonly #queue: ByteQueue;
  /** A queue, so that short pieces are kept as one: else each would pin the chunk that it is a view of. */
  readonly #captured: ByteQueue | undefined;
  #raw: readonly Uint8Array[] = [];
  #send: Uint8Array[] = [];
  #wanted = 0;
  #consumedBytes = 0;
  #result: { readonly value: T } | undefined;
  #started = false;

  /**
   * @param queue where bytes wait; share it between the messages of one connection.
   * @param options.capture keep the bytes of the message, for `raw()`. They stay in memory as long as this does.
   */
  constructor(
    conversation: Conversation<T>,
    queue: ByteQueue = new ByteQueue(),
    options: { readonly capture?: boolean } = {},
  ) {
    this.#conversation = conversation;
    this.#queue = queue;
    this.#captured = options.capture === true ? new ByteQueue() : undefined;
  }

  /** Bytes that this message has consumed so far. */
  get consumedBytes(): number {
    return this.#consumedBytes;
  }

  /**
   * Goes on as far as the bytes that are here allow. Without a chunk: on what is queued already; the first call
   * of a conversation that speaks first is such a one.
   * @throws ProtocolError whatever the conversation throws; the connection is then useless, once `unsent` is sent.
   */
  feed(chunk?: Uint8Array): Progress<T> {
    if (chunk !== undefined) this.#queue.push(chunk);
    if (!this.#started) {
      this.#started = true;
      this.#resume(EMPTY);
    }
    while (this.#result === undefined) {
      const bytes = this.#queue.take(this.#wanted);
      if (bytes === undefined) {
        return { done: false, send: this.unsent(), wanted: this.#wanted - this.#queue.length };
      }
      this.#consumedBytes += bytes.length;
      this.#captured?.push(bytes);
      this.#resume(bytes);
    }
    return { done: true, send: this.unsent(), value: this.#result.value };
  }

  /** What the conversation said before it threw: a server's last word to a client that it turns away. */
  unsent(): readonly Uint8Array[] {
    const send = this.#send;
    this.#send = [];
    return send;
  }

  /**
   * To be called when the stream has ended.
   * @throws ProtocolError `PROTOCOL_TRUNCATED` unless the conversation is done.
   */
  end(): T {
    if (this.#result !== undefined) return this.#result.value;
    throw new ProtocolError('PROTOCOL_TRUNCATED', 'The connection ended in the middle of a message', {
      context: { consumedBytes: this.#consumedBytes + this.#queue.length, wantedBytes: this.#wanted },
    });
  }

  /** Exactly the bytes that were consumed, in order, to be forwarded verbatim. Empty without `capture`. */
  raw(): readonly Uint8Array[] {
    if (this.#captured !== undefined && this.#captured.length > 0) {
      this.#raw = [...this.#raw, ...this.#captured.takeParts()];
    }
    return this.#raw;
  }

  /** Takes the bytes that arrived after the message out of the queue: what a relay must send on first. */
  rest(): readonly Uint8Array[] {
    return this.#queue.takeParts();
  }

  /** Until it wants bytes, or is done. What it wants is at least 1. */
  #resume(bytes: Uint8Array): void {
    let step = this.#conversation.next(bytes);
    while (!step.done) {
      if (typeof step.value === 'number') {
        this.#wanted = step.value;
        return;
      }
      this.#send.push(step.value);
      step = this.#conversation.next(EMPTY);
    }
    this.#result = { value: step.value };
  }
}

const EMPTY = new Uint8Array(0);
