import type { CancelTimer, Clock } from '../lib/clock.js';
import type { Html } from './html.js';
import type { LiveStream } from './streams.js';

/** Changes that come faster than this are shown together, in milliseconds. */
const TOGETHER_MS = 250;
/** While something runs, the page is rendered again this often, in milliseconds. */
const TICK_MS = 1_000;

/** Content of a page by the ids of its elements. */
export type Sections = ReadonlyMap<string, Html>;

/** A page at one moment. */
export interface Picture {
  readonly title: string;
  readonly sections: Sections;
  /** `moving`: it changes with the time. `ended`: it does not change any more. */
  readonly state: 'moving' | 'still' | 'ended';
}

interface Reader {
  readonly stream: LiveStream;
  /** Markup of each element as the reader has it. */
  readonly sent: Map<string, string>;
}

/** Pages that are being looked at. Each is rendered once for all of its readers, and only where it has some. */
export class LivePages {
  readonly #clock: Clock;
  readonly #pages = new Map<string, LivePage>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Sends what changes on a page to one more reader. @param path names the page */
  join(path: string, stream: LiveStream, render: () => Promise<Picture>): void {
    let page = this.#pages.get(path);
    if (page === undefined) {
      page = new LivePage(render, this.#clock, () => this.#pages.delete(path));
      this.#pages.set(path, page);
    }
    page.join(stream);
  }

  /** Something has happened that pages may show. */
  changed(): void {
    for (const page of this.#pages.values()) page.renderIn(TOGETHER_MS);
  }
}

class LivePage {
  readonly #render: () => Promise<Picture>;
  readonly #clock: Clock;
  readonly #onUnread: () => void;
  readonly #readers = new Set<Reader>();
  #cancelTimer: CancelTimer | undefined;
  #dueAt = Infinity;
  #rendering = false;

  constructor(render: () => Promise<Picture>, clock: Clock, onUnread: () => void) {
    this.#render = render;
    this.#clock = clock;
    this.#onUnread = onUnread;
  }

  join(stream: LiveStream): void {
    const reader = { stream, sent: new Map<string, string>() };
    this.#readers.add(reader);
    stream.signal.addEventListener('abort', () => {
      this.#readers.delete(reader);
      if (this.#readers.size > 0) return;
      this.#cancelTimer?.();
      this.#onUnread();
    });
    this.renderIn(0);
  }

  /** Renders within this time, or sooner if that was asked for. */
  renderIn(delayMs: number): void {
    const dueAt = this.#clock.now() + delayMs;
    if (dueAt >= this.#dueAt) return;
    this.#cancelTimer?.();
    this.#dueAt = dueAt;
    this.#cancelTimer = this.#clock.after(delayMs, () => void this.#update());
  }

  async #update(): Promise<void> {
    // The next rendering shows changes that come during this one.
    if (this.#rendering) {
      this.#dueAt = Infinity;
      this.renderIn(TOGETHER_MS);
      return;
    }
    this.#dueAt = Infinity;
    this.#rendering = true;
    const picture = await this.#render().catch(() => undefined);
    this.#rendering = false;
    for (const reader of this.#readers) {
      if (picture !== undefined) this.#show(picture, reader);
      // A page that cannot be rendered shows something that has been forgotten.
      if (picture === undefined || picture.state === 'ended') finish(reader);
    }
    if (picture?.state === 'moving' && this.#readers.size > 0) this.renderIn(TICK_MS);
  }

  /** A reader that is behind gets a new picture when it has caught up. */
  #show({ title, sections, state }: Picture, { stream, sent }: Reader): void {
    if (stream.isBehind && state !== 'ended') {
      void stream.drained().then(() => {
        if (!stream.signal.aborted) this.renderIn(TOGETHER_MS);
      });
      return;
    }
    for (const [id, { markup }] of [...sections, ['title', { markup: title }] as const]) {
      if (sent.get(id) === markup) continue;
      sent.set(id, markup);
      if (id === 'title') stream.send('title', markup);
      else stream.send('section', { id, markup });
    }
  }
}

function finish({ stream }: Reader): void {
  stream.send('end', {});
  stream.end();
}
