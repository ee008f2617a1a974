import { chmod } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';

import { clearStaleSocket, closeServer, listen } from '../lib/listen.js';
import { EVENTS_PATH, STATUS_PATH, type DroverEvent, type Status } from './api.js';

/** Maximum number of bytes queued for a slow reader of events, who is then disconnected. */
const MAX_EVENT_BACKLOG_BYTES = 1024 * 1024;

export interface ControlSource {
  status(): Status;
  /** Returns a function that removes the listener. */
  onEvent(listener: (event: DroverEvent) => void): () => void;
}

/**
 * Serves HTTP on a Unix socket that only this user can reach.
 * @throws DroverError `ADDRESS_IN_USE`; it keeps two supervisors from sharing a state directory
 */
export async function serveControl(path: string, source: ControlSource): Promise<{ close(): Promise<void> }> {
  await clearStaleSocket(path);
  const server = createServer((request, response) => {
    if (request.method !== 'GET') response.writeHead(405).end();
    else if (request.url === STATUS_PATH) sendJson(response, source.status());
    else if (request.url === EVENTS_PATH) sendEvents(response, source);
    else response.writeHead(404).end();
  });
  await listen(server, path);
  await chmod(path, 0o600);
  return {
    close: async () => {
      server.closeAllConnections();
      await closeServer(server);
    },
  };
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify(value)}\n`);
}

function sendEvents(response: ServerResponse, source: ControlSource): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  const off = source.onEvent((event) => {
    response.write(`${JSON.stringify(event)}\n`);
    if (response.writableLength > MAX_EVENT_BACKLOG_BYTES) response.destroy();
  });
  response.once('close', off);
}
