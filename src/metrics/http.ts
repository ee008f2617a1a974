import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';

import { closeServer, listen } from '../lib/listen.js';
import type { Log } from '../lib/log.js';

/** Time limit for a request to arrive, and for a connection to be idle, in milliseconds. */
const TIMEOUT_MS = 10_000;
/** Upper bound for the request line and the headers together. */
const MAX_HEADER_BYTES = 8 * 1024;
/** Further connections are closed at once. With a page, its streams come on top. */
const MAX_CONNECTIONS = 64;

export interface MetricsServerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly metrics: { readonly contentType: string; metrics(): Promise<string> };
  /** One line that says why Drover accepts no builds; undefined while it accepts them. */
  readonly unhealthy: () => string | undefined;
  /** Answers everything else: the page for people, and the connections that it keeps open. */
  readonly page?: { readonly answer: RequestListener; readonly maxStreams: number };
  readonly log: Log;
  /** Default: 10 s. */
  readonly timeoutMs?: number;
}

export interface MetricsServer {
  /** The port it listens on; the chosen one if 0 was requested. */
  readonly port: number;
  /** Closes its connections too. */
  readonly close: () => Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * Serves `/metrics` to Prometheus, and `/healthz` to probes that ask whether Drover accepts builds. There is no
 * authentication: nothing in it is secret, and nothing can be changed through it. All other requests go to the page for
 * people, if there is one.
 * @throws DroverError `ADDRESS_IN_USE`, `ADDRESS_UNUSABLE`
 */
export async function serveMetrics(options: MetricsServerOptions): Promise<MetricsServer> {
  const { host, page, timeoutMs = TIMEOUT_MS } = options;
  const limits = {
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: timeoutMs,
    requestTimeout: timeoutMs,
    connectionsCheckingInterval: timeoutMs,
  };
  const server = createServer(limits, requestListener(options));
  server.maxConnections = MAX_CONNECTIONS + (page?.maxStreams ?? 0);
  server.timeout = timeoutMs;
  await listen(server, options.port, host);
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    close: async () => {
      const closed = closeServer(server);
      server.closeAllConnections();
      await closed;
    },
  };
}

function requestListener(options: MetricsServerOptions): RequestListener {
  const routes: Readonly<Record<string, () => Promise<Answer>>> = {
    '/metrics': async () => {
      const { contentType } = options.metrics;
      return { status: 200, body: await options.metrics.metrics(), headers: { 'content-type': contentType } };
    },
    '/healthz': () => Promise.resolve(health(options.unhealthy())),
  };
  const routeOf = ({ url = '' }: IncomingMessage): (() => Promise<Answer>) | undefined => {
    const [path = ''] = url.split('?', 1);
    return Object.hasOwn(routes, path) ? routes[path] : undefined;
  };
  const answerTo = async (request: IncomingMessage): Promise<Answer> => {
    const { method } = request;
    const route = routeOf(request);
    if (route === undefined) return { status: 404, body: 'not found: there are /metrics and /healthz\n' };
    if (method !== 'GET' && method !== 'HEAD')
      return { status: 405, body: 'only GET and HEAD\n', headers: { allow: 'GET, HEAD' } };
    return await route();
  };
  return (request, response) => {
    if (options.page !== undefined && routeOf(request) === undefined) {
      options.page.answer(request, response);
      return;
    }
    void answerTo(request)
      .catch((error: unknown): Answer => {
        options.log.error({ err: error }, 'metrics collection failed');
        return { status: 500, body: 'the metrics could not be read; see the log\n' };
      })
      .then((answer) => {
        send(response, answer, request.method);
      });
  };
}

function health(reason: string | undefined): Answer {
  return reason === undefined ? { status: 200, body: 'ok\n' } : { status: 503, body: `${reason}\n` };
}

function send(response: ServerResponse, { status, body, headers }: Answer, method: string | undefined): void {
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    // A rejected request may have a body on its way, which is not read.
    ...(method === 'GET' || method === 'HEAD' ? {} : { connection: 'close' }),
    ...headers,
  });
  response.end(method === 'HEAD' ? undefined : body);
}
