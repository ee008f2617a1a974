import { ByteQueue } from './byte-queue.js';
import { ProtocolError } from './protocol-error.js';
import type { Conversation } from './wire.js';

/**
 * State of a conversation. `send` holds bytes for the peer, in order, to send before anything else. While it
 * is not done, it needs `wanted` more bytes than are queued.
 */
export type Progress<T> =
  | { readonly done: false; readonly send: readonly Uint8Array[]; readonly wanted: number }
  | { readonly done: true; readonly send: readonly Uint8Array[]; readonly value: T };

/**
 * Runs one decoder or conversation over chunks as they arrive. Bytes that it does not consume stay in the
 * queue: pass the same queue to the next message's feeder, which starts with them.
 *
 * Nothing is allocated for bytes that are only claimed, and no byte is copied more than twice.
 */
export class Feeder<T> {
  readonly #conversation: Conversation<T>;
  readonly #queue: ByteQueue;
  /**
   * A queue, so that short pieces are stored together: otherwise each would pin the chunk that it is a view
   * of.
   */
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
   * Resumes the conversation until it needs bytes that have not arrived. Without a chunk, it uses what is
   * queued; a conversation that speaks first starts with such a call.
   * @throws ProtocolError whatever the conversation throws; the connection is then unusable, once `unsent` is
   *   sent.
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

  /**
   * Bytes that the conversation produced before it threw: a server's last message to a client that it
   * rejects.
   */
  unsent(): readonly Uint8Array[] {
    const send = this.#send;
    this.#send = [];
    return send;
  }

  /**
   * Call this when the stream has ended.
   * @throws ProtocolError `PROTOCOL_TRUNCATED` unless the conversation is done.
   */
  end(): T {
    if (this.#result !== undefined) return this.#result.value;
    throw new ProtocolError('PROTOCOL_TRUNCATED', 'The connection ended in the middle of a message', {
      context: { consumedBytes: this.#consumedBytes + this.#queue.length, wantedBytes: this.#wanted },
    });
  }

  /** Exactly the bytes that were consumed, in order, for forwarding verbatim. Empty without `capture`. */
  raw(): readonly Uint8Array[] {
    if (this.#captured !== undefined && this.#captured.length > 0) {
      this.#raw = [...this.#raw, ...this.#captured.takeParts()];
    }
    return this.#raw;
  }

  /** Takes the bytes that arrived after the message out of the queue: a relay must send them first. */
  rest(): readonly Uint8Array[] {
    return this.#queue.takeParts();
  }

  /** Runs until it wants bytes (at least 1) or is done. */
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
