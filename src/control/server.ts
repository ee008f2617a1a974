import { chmod } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { DroverError } from '../lib/errors.js';
import { clearStaleSocket, closeServer, listen } from '../lib/listen.js';
import { BUILDS_PATH, EVENTS_PATH, PROGRAM_PROTOCOL, STATUS_PATH } from './api.js';
import type { Operator } from './operator.js';
import { EventStreams } from './event-streams.js';
import { controlError, serveProgram } from './program-server.js';
import { readOrder } from './requests.js';

/** Logs and events that are read at the same time. */
const MAX_STREAMS = 256;
const MAX_HEADER_BYTES = 16 * 1024;

/** Whom a socket serves. */
export interface ControlAccess {
  /** Group that may look and change nothing; undefined: the owner, who may do everything. */
  readonly group: string | undefined;
}

/**
 * Serves HTTP on a Unix socket that only this user can reach. The caller gives others access to it.
 * @throws DroverError `ADDRESS_IN_USE`; it keeps two supervisors from sharing a state directory
 */
export async function serveControl(
  path: string,
  operator: Operator,
  access: ControlAccess = { group: undefined },
): Promise<{ close(): Promise<void> }> {
  await clearStaleSocket(path);
  const streams = new EventStreams(operator, MAX_STREAMS);
  const server = createServer({ maxHeaderSize: MAX_HEADER_BYTES }, (request, response) => {
    answer(request, response, operator, streams, access).catch((error: unknown) => {
      sendError(response, error);
    });
  });
  const programs = new Set<Duplex>();
  server.on('upgrade', (request, socket, head) => {
    if (head.length > 0) socket.unshift(head);
    programs.add(socket);
    socket.once('close', () => programs.delete(socket));
    upgrade(request, socket, operator, access);
  });
  server.maxConnections = 2 * MAX_STREAMS;
  await listen(server, path);
  await chmod(path, 0o600);
  return {
    close: async () => {
      for (const socket of programs) socket.destroy();
      server.closeAllConnections();
      await closeServer(server);
    },
  };
}

/** Serves a program: the rest of the connection is its. */
function upgrade(
  request: IncomingMessage,
  socket: Duplex,
  operator: Operator,
  { group }: ControlAccess,
): void {
  try {
    if (group !== undefined) throw onlyLooks(group);
    const open = operator.program(pathOf(request));
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${PROGRAM_PROTOCOL}\r\n\r\n`,
    );
    void serveProgram(socket, open, operator.programsEnd);
  } catch (error) {
    const body = `${JSON.stringify(controlError(error))}\n`;
    socket.on('error', () => undefined);
    socket.end(
      `HTTP/1.1 ${group === undefined ? '400 Bad Request' : '403 Forbidden'}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    );
  }
}

function pathOf(request: IncomingMessage): string[] {
  const url = new URL(request.url ?? '/', 'http://drover');
  return url.pathname.split('/').slice(1).map(decodeURIComponent);
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  operator: Operator,
  streams: EventStreams,
  { group }: ControlAccess,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://drover');
  const parts = pathOf(request);
  if (request.method === 'POST') {
    if (group !== undefined) throw onlyLooks(group);
    sendJson(response, await readOrder(request, parts, operator));
    return;
  }
  if (request.method !== 'GET') throw notFound(`${request.method ?? ''} is not a method`);
  const [, id = '', log] = parts;
  const follow = url.searchParams.has('follow');
  if (url.pathname === STATUS_PATH) sendJson(response, operator.status());
  else if (url.pathname === EVENTS_PATH && url.searchParams.has('recent'))
    sendJson(response, operator.events.all);
  else if (url.pathname === EVENTS_PATH) streams.open(response);
  else if (url.pathname === BUILDS_PATH) sendJson(response, await operator.builds(queryOf(url.searchParams)));
  else if (parts[0] === 'builds' && parts.length === 2) sendJson(response, await operator.build(id));
  else if (parts.length === 3 && log === 'log' && (parts[0] === 'builds' || parts[0] === 'guests')) {
    const open = (signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> =>
      parts[0] === 'builds'
        ? operator.buildLog(id, { follow, signal })
        : operator.guestLog(id, { follow, signal });
    await streams.run(response, (signal) => sendText(response, open(signal)));
  } else throw notFound(`There is no ${url.pathname.slice(0, 80)}`);
}

function queryOf(params: URLSearchParams) {
  const number = (name: string): number | undefined => {
    const value = Number(params.get(name) ?? NaN);
    return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  };
  const since = number('since');
  const limit = number('limit');
  return {
    failed: params.has('failed'),
    names: params.getAll('name'),
    ...(since === undefined ? {} : { since }),
    ...(limit === undefined ? {} : { limit }),
  };
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify(value)}\n`);
}

async function sendText(
  response: ServerResponse,
  opening: Promise<AsyncIterable<Uint8Array>>,
): Promise<void> {
  const text = await opening;
  response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' });
  response.flushHeaders();
  await pipeline(Readable.from(text, { objectMode: false }), response);
}

function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const body = controlError(error);
  const { code } = body.error;
  const status = code === 'NOT_PERMITTED' ? 403 : code.startsWith('UNKNOWN_') ? 404 : 400;
  response
    .writeHead(status, { 'content-type': 'application/json', connection: 'close' })
    .end(`${JSON.stringify(body)}\n`);
}

function onlyLooks(group: string): DroverError {
  return new DroverError('NOT_PERMITTED', `Members of the group ${group} may look, and change nothing`, {
    hint: 'Run this as the user who runs drover serve, for example with sudo.',
  });
}

function notFound(message: string): DroverError {
  return new DroverError('CONTROL_FAILED', message, {
    hint: 'Client and supervisor may be of different versions.',
  });
}
