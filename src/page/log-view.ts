import { wholeLines } from '../lib/whole-lines.js';
import { AnsiRenderer } from './ansi.js';
import type { Html } from './html.js';
import type { LiveStream } from './streams.js';

/** Bytes at the end of a log that are read for a page. */
export const LAST_BYTES = 256 * 1024;
/** Characters of a log that a page shows. */
const MAX_CHARACTERS = 256 * 1024;

export interface LogEnd {
  readonly markup: Html;
  /** There is more before it. */
  readonly isCut: boolean;
}

/** Keeps the end of a text, in bounded memory. */
class TextEnd {
  #pieces: string[] = [];
  #length = 0;
  isCut = false;

  add(piece: string): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
    while (this.#length - (this.#pieces[0]?.length ?? 0) >= MAX_CHARACTERS) {
      this.#length -= this.#pieces.shift()?.length ?? 0;
      this.isCut = true;
    }
  }

  /** Begins with a whole line where there is one. */
  get text(): string {
    const text = this.#pieces.join('');
    if (text.length <= MAX_CHARACTERS) return text;
    this.isCut = true;
    const end = text.slice(-MAX_CHARACTERS);
    return end.slice(end.indexOf('\n') + 1);
  }
}

/** Reads the end of a log. */
export async function readLogEnd(log: AsyncIterable<Uint8Array>): Promise<LogEnd> {
  const end = new TextEnd();
  let bytes = 0;
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of log) {
      bytes += chunk.length;
      yield chunk;
    }
  };
  for await (const piece of wholeLines(counted())) end.add(piece);
  const markup = new AnsiRenderer().render(end.text);
  return { markup, isCut: end.isCut || bytes >= LAST_BYTES };
}

/** Sends a log as it grows, at the reader's own pace. */
export async function followLog(stream: LiveStream, log: AsyncIterable<Uint8Array>): Promise<void> {
  const ansi = new AnsiRenderer();
  stream.send('log-start', {});
  for await (const piece of wholeLines(log)) {
    await stream.drained();
    if (stream.signal.aborted) return;
    stream.send('log', ansi.render(piece));
  }
}
