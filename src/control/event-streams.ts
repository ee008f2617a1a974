import type { ServerResponse } from 'node:http';

import { DroverError } from '../lib/errors.js';
import type { Operator } from './operator.js';

/** Bytes that wait for a slow reader of events, who is then cut off. */
const MAX_BACKLOG_BYTES = 256 * 1024;
/** Time in which a reader that is cut off may still take what waits for it, in milliseconds. */
const CUT_OFF_MS = 15_000;

/** Answers that go on: events and logs. Their number is bounded, and what each of them may hold in memory. */
export class EventStreams {
  readonly #operator: Pick<Operator, 'events'>;
  readonly #max: number;
  #count = 0;

  constructor(operator: Pick<Operator, 'events'>, max: number) {
    this.#operator = operator;
    this.#max = max;
  }

  /** Sends every event from now on, as lines of JSON. @throws DroverError `TOO_MANY_STREAMS` */
  open(response: ServerResponse): void {
    this.#enter(response);
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.flushHeaders();
    const off = this.#operator.events.stream.on((event) => {
      response.write(`${JSON.stringify(event)}\n`);
      if (response.writableLength <= MAX_BACKLOG_BYTES) return;
      off();
      // One that does not read that either gives its place back.
      response.socket?.setTimeout(CUT_OFF_MS, () => response.destroy());
      response.end(`${JSON.stringify({ type: 'events-lost', reason: 'the reader was too slow' })}\n`);
    });
    response.once('close', off);
  }

  /** @param send gets a signal that aborts when the reader goes @throws DroverError `TOO_MANY_STREAMS` */
  async run(response: ServerResponse, send: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#enter(response);
    const gone = new AbortController();
    response.once('close', () => {
      gone.abort();
    });
    await send(gone.signal);
  }

  #enter(response: ServerResponse): void {
    if (this.#count >= this.#max) {
      throw new DroverError('TOO_MANY_STREAMS', `${this.#count} logs and events are being read, the limit`, {
        hint: 'Close some of them: drover logs -f, drover events -f, pages.',
      });
    }
    this.#count += 1;
    response.once('close', () => {
      this.#count -= 1;
    });
  }
}
