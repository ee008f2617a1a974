import type { Channel, MayPause } from '../daemon/channel.js';
import { ByteQueue, UNENDING, type Extent } from '../protocol/byte-queue.js';
import { Feeder } from '../protocol/feeder.js';
import { encodeFrame, FrameParser } from '../protocol/framed.js';
import { ProtocolError } from '../protocol/protocol-error.js';
import type { Decoder } from '../protocol/wire.js';

/** The payload of a framed stream that a client sends, read piece by piece and never held as a whole. */
export class FramedInput {
  readonly #client: Channel;
  readonly #mayPause: MayPause | undefined;
  readonly #parser = new FrameParser();
  readonly #payload = new ByteQueue();

  /** @param mayPause how long the client may pause in the middle; by default as in any message */
  constructor(client: Channel, mayPause?: MayPause) {
    this.#client = client;
    this.#mayPause = mayPause;
  }

  /** Whether the end of the stream was read, and everything before it. */
  get ended(): boolean {
    return this.#parser.ended && this.#payload.length === 0;
  }

  /** Reads one value from the payload, with its bytes. @throws ProtocolError also when the stream ends before it */
  async receive<T>(decoder: Decoder<T>): Promise<{ value: T; raw: readonly Uint8Array[] }> {
    const feeder = new Feeder(decoder, this.#payload, { capture: true });
    const held = this.#client.measure();
    for (;;) {
      const progress = feeder.feed();
      if (progress.done) return { value: progress.value, raw: feeder.raw() };
      held();
      if (!(await this.#fill())) feeder.end();
    }
  }

  /**
   * Passes payload on in frames of its own: the data that `extent` measures, or all to the end of the stream.
   * @throws ProtocolError `PROTOCOL_TRUNCATED`, and what `extent` throws: none of the bytes it threw for is passed on
   */
  async pass(to: Channel, extent: Extent = UNENDING): Promise<void> {
    while (!extent.complete) {
      if (this.#payload.length === 0 && !(await this.#fill())) {
        if (extent === UNENDING) return;
        throw new ProtocolError('PROTOCOL_TRUNCATED', 'An upload ended in the middle of a path');
      }
      for (const part of this.#payload.takeWithin(extent)) await to.write(encodeFrame(part));
    }
  }

  /** Reads up to the end of the stream, and throws it away. */
  async drain(): Promise<void> {
    do this.#payload.takeParts();
    while (await this.#fill());
  }

  /** Reads the end of a stream whose payload was read. @throws ProtocolError when more comes */
  async expectEnd(): Promise<void> {
    if (this.#payload.length > 0 || (await this.#fill())) {
      throw new ProtocolError('PROTOCOL_MALFORMED', 'An upload has more data than it announced');
    }
  }

  /** Waits for more payload. False at the end of the stream. */
  async #fill(): Promise<boolean> {
    const before = this.#payload.length;
    while (this.#payload.length === before) {
      if (this.#parser.ended) return false;
      // Never beyond this stream's end: what follows it is the next request.
      const chunks = await this.#client.readSome(this.#parser.wantedBytes, this.#mayPause);
      if (chunks.length === 0) {
        throw new ProtocolError('PROTOCOL_TRUNCATED', 'The connection ended in the middle of an upload');
      }
      for (const chunk of chunks) {
        for (const part of this.#parser.push(chunk).payload) this.#payload.push(part);
      }
    }
    return true;
  }
}
