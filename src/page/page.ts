import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import type { FollowOptions, Operator } from '../control/operator.js';
import type { Clock } from '../lib/clock.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { printableLines } from '../lib/printable.js';
import { wholeLines } from '../lib/whole-lines.js';
import { HostCheck } from './access.js';
import type { Asset } from './assets.js';
import { html, type Html } from './html.js';
import { documentOf, sectionsOf, type Page } from './layout.js';
import { LivePages, type Picture } from './live.js';
import { followLog, LAST_BYTES, readLogEnd } from './log-view.js';
import { Pictures } from './pictures.js';
import { LiveStreams } from './streams.js';
import { history, queryOf, searchOf } from './views/history.js';

/** Pages and logs that are being followed. */
export const MAX_PAGE_STREAMS = 256;
/** Pages that are rendered at the same time: each may read the end of a log. */
const MAX_RENDERING = 16;

/** Nothing but the page's own files; no markup of a build could load or run anything. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
} as const;

export interface PageOptions {
  readonly operator: Pick<Operator, 'status' | 'builds' | 'build' | 'buildLog' | 'guestLog' | 'events'>;
  /** Names of this host, under which the page may be asked for. */
  readonly hostNames: readonly string[];
  readonly assets: ReadonlyMap<string, Asset>;
  readonly clock: Clock;
  readonly log: Log;
}

/** A request, taken apart. */
interface Asked {
  readonly path: readonly string[];
  readonly params: URLSearchParams;
  readonly isHead: boolean;
}

/** The pages for people: server-rendered, kept up to date by server-sent events. No request changes anything. */
export class WebPage {
  readonly #options: PageOptions;
  readonly #hosts: HostCheck;
  readonly #streams: LiveStreams;
  readonly #pages: LivePages;
  readonly #pictures: Pictures;
  #rendering = 0;

  constructor(options: PageOptions) {
    const { operator, clock } = options;
    this.#options = options;
    this.#hosts = new HostCheck(options.hostNames);
    this.#streams = new LiveStreams(clock, MAX_PAGE_STREAMS);
    this.#pages = new LivePages(clock);
    this.#pictures = new Pictures(operator, clock);
    operator.events.stream.on((event) => {
      this.#pictures.noteEvent(event);
      this.#pages.changed();
    });
  }

  /** Answers a request, whatever it is. */
  readonly answer = (request: IncomingMessage, response: ServerResponse): void => {
    this.#answer(request, response).catch((error: unknown) => {
      this.#sendError(request, response, error);
    });
  };

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, headers } = request;
    if (method !== 'GET' && method !== 'HEAD') {
      const about = 'This page only shows things: there is nothing but GET and HEAD.\n';
      sendText(response, 405, about, { allow: 'GET, HEAD', connection: 'close' });
      return;
    }
    if (!this.#hosts.accepts(headers.host)) {
      const about =
        'Drover does not serve this page under that host name, so that other sites cannot read it.\n' +
        "Use localhost, an IP address, this machine's own name, or the name in metrics.listen.\n";
      sendText(response, 421, about, {});
      return;
    }
    const url = targetOf(request);
    const path = url.pathname.split('/').slice(1);
    const asked = { path, params: url.searchParams, isHead: method === 'HEAD' };
    const asset = this.#options.assets.get(url.pathname);
    if (asset !== undefined) send(response, 200, asset.type, asset.body, asked.isHead);
    else if (path[0] === 'live') this.#live(request, response, asked);
    else if (path.length === 3 && path[0] === 'builds' && path[2] === 'log')
      await this.#sendLog(response, asked);
    else await this.#sendPage(response, asked);
  }

  async #sendPage(response: ServerResponse, asked: Asked): Promise<void> {
    if (this.#rendering >= MAX_RENDERING) {
      sendText(response, 503, 'Too many pages are being loaded. Try again.\n', { 'retry-after': '1' });
      return;
    }
    this.#rendering += 1;
    try {
      const page = await this.#pageOf(asked);
      const status = this.#options.operator.status();
      send(response, 200, 'text/html; charset=utf-8', documentOf({ ...page, status }), asked.isHead);
    } finally {
      this.#rendering -= 1;
    }
  }

  async #pageOf({ path, params }: Asked): Promise<Omit<Page, 'status'>> {
    const [folder, id = ''] = path;
    if (path.length === 1 && folder === '') {
      const { title, sections } = await this.#pictures.overview();
      return { title, current: 'overview', live: '/live', content: sectionsOf(sections) };
    }
    if (path.length === 1 && folder === 'history') return await this.#historyPage(params);
    const render = path.length === 2 ? this.#pictureOf(folder, id) : undefined;
    if (render === undefined) throw notFound();
    const log = await this.#logEnd(folder, id);
    const { title, sections, state } = await render();
    return {
      title,
      content: html`${sectionsOf(sections)} ${log}`,
      ...(state === 'ended' ? {} : { live: `/live/${path.join('/')}` }),
    };
  }

  async #historyPage(params: URLSearchParams): Promise<Omit<Page, 'status'>> {
    const search = searchOf(params);
    const now = this.#options.clock.wallNow();
    const builds = await this.#options.operator.builds(queryOf(search, now));
    return { title: 'History – Drover', current: 'history', content: history(builds, search, now) };
  }

  #pictureOf(folder: string | undefined, id: string): (() => Promise<Picture>) | undefined {
    if (folder === 'builds') return () => this.#pictures.build(id);
    return folder === 'guests' ? () => this.#pictures.guest(id) : undefined;
  }

  #logOf(folder: string | undefined, id: string, options: FollowOptions): Promise<AsyncIterable<Uint8Array>> {
    const { operator } = this.#options;
    return folder === 'builds' ? operator.buildLog(id, options) : operator.guestLog(id, options);
  }

  async #logEnd(folder: string | undefined, id: string): Promise<Html> {
    const { signal } = new AbortController();
    const log = await this.#logOf(folder, id, { follow: false, lastBytes: LAST_BYTES, signal });
    const { markup, isCut } = await readLogEnd(log);
    const whole = folder === 'builds' ? html`<small><a href="/builds/${id}/log">as text</a></small>` : null;
    return html`<h2>${folder === 'builds' ? 'Log' : 'Console'} ${whole}</h2>
      ${isCut ? html`<p class="note">Only the end is shown.</p>` : null}
      <pre id="log" class="log" tabindex="0">${markup}</pre>`;
  }

  /** Streams a whole log as text. */
  async #sendLog(response: ServerResponse, { path: [, id = ''], isHead }: Asked): Promise<void> {
    // Before anything is waited for: its place ends with the answer.
    this.#streams.enter(response);
    const gone = new AbortController();
    response.once('close', () => {
      gone.abort();
    });
    const log = await this.#options.operator.buildLog(id, { follow: false, signal: gone.signal });
    response.writeHead(200, { ...HEADERS, 'content-type': 'text/plain; charset=utf-8' });
    if (isHead) response.end();
    else await pipeline(Readable.from(printableText(log)), response);
  }

  /** Server-sent events of one page, and the log that belongs to it. */
  #live(request: IncomingMessage, response: ServerResponse, { path, isHead }: Asked): void {
    const [, folder, id = ''] = path;
    const render = folder === undefined ? () => this.#pictures.overview() : this.#pictureOf(folder, id);
    if (render === undefined || path.length > 3) throw notFound();
    // Another site can neither read events nor take up their places.
    if (['cross-site', 'same-site'].includes(String(request.headers['sec-fetch-site']))) {
      sendText(response, 403, 'Events are for the page itself.\n', {});
      return;
    }
    if (isHead) {
      send(response, 200, 'text/event-stream; charset=utf-8', '', true);
      return;
    }
    const stream = this.#streams.open(response, HEADERS);
    request.socket.setTimeout(0);
    this.#pages.join(path.join('/'), stream, render);
    if (folder === undefined) return;
    const options = { follow: true, lastBytes: LAST_BYTES, signal: stream.signal };
    this.#logOf(folder, id, options)
      .then((log) => followLog(stream, log))
      // The page says why: what is unknown cannot be rendered, and its stream ends.
      .catch(() => undefined);
  }

  #sendError(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    const code = errorCode(error) ?? '';
    const isMissing = code.startsWith('UNKNOWN_') || code === 'HISTORY_OFF' || code === 'NOT_FOUND';
    const status = isMissing ? 404 : code === 'TOO_MANY_STREAMS' ? 503 : 500;
    if (status === 500) this.#options.log.error({ err: error }, 'a page could not be rendered');
    const message = status === 500 ? 'The page could not be rendered; see the log' : errorMessage(error);
    const hint = error instanceof DroverError ? error.hint : undefined;
    const content = html`<h1>${message}</h1>
      <p>${hint}</p>`;
    const page = documentOf({ title: 'Drover', status: this.#options.operator.status(), content });
    send(response, status, 'text/html; charset=utf-8', page, request.method === 'HEAD');
  }
}

async function* printableText(log: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  for await (const text of wholeLines(log)) yield printableLines(text);
}

function targetOf({ url = '/' }: IncomingMessage): URL {
  try {
    return new URL(url, 'http://drover');
  } catch {
    throw notFound();
  }
}

function notFound(): Error {
  return Object.assign(new Error('There is no such page'), { code: 'NOT_FOUND' });
}

function sendText(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>>,
): void {
  response.writeHead(status, { ...HEADERS, 'content-type': 'text/plain; charset=utf-8', ...headers });
  response.end(text);
}

function send(response: ServerResponse, status: number, type: string, body: string, isHead: boolean): void {
  response.writeHead(status, {
    ...HEADERS,
    'content-type': type,
    ...(isHead && body === '' ? {} : { 'content-length': Buffer.byteLength(body) }),
  });
  response.end(isHead ? undefined : body);
}
