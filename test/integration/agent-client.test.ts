import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';

import { runInGuest, startInGuest } from '../../src/drivers/namespace/agent-client.js';
import { encodeFrame } from '../../src/guest/program.js';
import { within } from '../support/wait.js';

const MIB = 1024 * 1024;
const EXIT = encodeFrame('x', Buffer.of(0));

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp('/tmp/agent-');
});
afterEach(async () => {
  await rm(dir, { recursive: true });
});

/** Serves one connection as a guest's agent. */
async function agent(serve: (socket: Socket) => void) {
  const path = join(dir, 'run');
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.resume();
    serve(socket);
  });
  await once(server.listen(path), 'listening');
  return { path, [Symbol.dispose]: () => void server.close() };
}

test('a command that never stops printing takes no memory beyond what is kept of it', async () => {
  const frame = encodeFrame('1', Buffer.alloc(64 * 1024, 'x'));
  let left = 512 * MIB;
  const flood = (socket: Socket): void => {
    left -= frame.length;
    if (left <= 0) socket.end(EXIT);
    else
      socket.write(frame, () => {
        flood(socket);
      });
  };
  using guest = await agent(flood);
  const { stdout } = await runInGuest(guest.path, ['stats'], '', AbortSignal.timeout(200_000));
  expect(stdout.length).toBe(MIB);
  expect(process.memoryUsage().arrayBuffers).toBeLessThan(256 * MIB);
});

test.each([
  ['a frame that is cut off', Buffer.from('1\u0010\u0000\u0000\u0000half')],
  ['a frame that is too long', encodeFrame('1', Buffer.alloc(64 * 1024 + 1))],
  ['a frame of no known kind', encodeFrame('?')],
  ['an exit without a status', encodeFrame('x')],
  ['more input taken than there was', encodeFrame('a', Buffer.of(1, 0, 0, 0))],
])('a program of a guest that sends %s has no known end', async (_what, bytes) => {
  using guest = await agent((socket) => socket.end(Buffer.concat([bytes, EXIT])));
  const { messages } = startInGuest(guest.path, { argv: ['true'], terminal: undefined });
  const read = async (): Promise<void> => {
    const iterator = messages[Symbol.asyncIterator]();
    while ((await iterator.next()).done !== true);
  };
  await expect(within('its end', read())).rejects.toMatchObject({ code: 'GUEST_EXEC_FAILED' });
});

test('an exit that is said twice counts once', async () => {
  using guest = await agent((socket) => socket.end(Buffer.concat([EXIT, encodeFrame('x', Buffer.of(7))])));
  const found = [];
  for await (const message of startInGuest(guest.path, { argv: ['true'], terminal: undefined }).messages)
    found.push(message);
  expect(found).toEqual([{ kind: 'exit', code: 0 }]);
});
