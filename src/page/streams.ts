import type { ServerResponse } from 'node:http';

import type { CancelTimer, Clock } from '../lib/clock.js';
import { DroverError } from '../lib/errors.js';

/** A reader that takes nothing for this long is cut off, in milliseconds. */
const STALLED_MS = 15_000;
/** A comment this often shows both ends that the other one is there, in milliseconds. */
const HEARTBEAT_MS = 15_000;

/** One reader of server-sent events. */
export class LiveStream {
  readonly #response: ServerResponse;
  readonly #clock: Clock;
  readonly #gone = new AbortController();
  #cancelHeartbeat: CancelTimer | undefined;
  /** Set while the reader has not taken what it was sent. */
  #behind: { readonly cancelCutOff: CancelTimer; readonly waiting: (() => void)[] } | undefined;

  constructor(response: ServerResponse, clock: Clock) {
    this.#response = response;
    this.#clock = clock;
    response.on('drain', () => {
      this.#caughtUp();
    });
    response.once('close', () => {
      this.#cancelHeartbeat?.();
      this.#gone.abort();
      this.#caughtUp();
    });
    this.#beat();
  }

  /** Aborts when the reader is gone. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** The reader has not taken yet what it was sent: send it nothing that can wait. */
  get isBehind(): boolean {
    return this.#behind !== undefined;
  }

  send(event: string, data: object | string): void {
    this.#write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** Settles when the reader has taken everything, or is gone. */
  async drained(): Promise<void> {
    const behind = this.#behind;
    if (behind === undefined) return;
    await new Promise<void>((resolve) => {
      behind.waiting.push(resolve);
    });
  }

  end(): void {
    this.#response.end();
  }

  #write(text: string): void {
    if (this.signal.aborted || this.#response.writableEnded || this.#response.write(text)) return;
    this.#behind ??= {
      cancelCutOff: this.#clock.after(STALLED_MS, () => {
        this.#response.destroy();
      }),
      waiting: [],
    };
  }

  #caughtUp(): void {
    const behind = this.#behind;
    this.#behind = undefined;
    behind?.cancelCutOff();
    for (const resolve of behind?.waiting ?? []) resolve();
  }

  #beat(): void {
    this.#cancelHeartbeat = this.#clock.after(HEARTBEAT_MS, () => {
      if (!this.isBehind) this.#write(':\n\n');
      this.#beat();
    });
  }
}

/** Answers that go on. Their number is bounded, and so is what each of them holds in memory. */
export class LiveStreams {
  readonly #clock: Clock;
  readonly #max: number;
  #count = 0;

  constructor(clock: Clock, max: number) {
    this.#clock = clock;
    this.#max = max;
  }

  /** Begins a stream of events. @throws DroverError `TOO_MANY_STREAMS` */
  open(response: ServerResponse, headers: Readonly<Record<string, string>>): LiveStream {
    this.enter(response);
    response.writeHead(200, { ...headers, 'content-type': 'text/event-stream; charset=utf-8' });
    response.flushHeaders();
    return new LiveStream(response, this.#clock);
  }

  /** Counts an answer until it has ended. @throws DroverError `TOO_MANY_STREAMS` */
  enter(response: ServerResponse): void {
    if (this.#count >= this.#max) {
      throw new DroverError('TOO_MANY_STREAMS', `${this.#count} pages are open, the limit`, {
        hint: 'Close some of them. What has been loaded stays readable.',
      });
    }
    this.#count += 1;
    response.once('close', () => {
      this.#count -= 1;
    });
  }
}
