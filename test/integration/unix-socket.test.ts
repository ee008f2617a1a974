import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { connectUnixSocket } from '../../src/lib/unix-socket.js';

/** Lets one connection wait, as Nix's daemon lets a few. */
const LISTENER = `require('net').createServer((socket) => socket.on('error', () => {}).resume())
  .listen({ path: process.argv[1], backlog: 1 }, () => console.log('listening'))`;

test('a socket whose queue is full is tried again until it takes connections', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'drover-queue-'));
  const path = join(directory, 's');
  const listener = spawn(process.execPath, ['-e', LISTENER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(listener.stdout, 'data');
    listener.kill('SIGSTOP');
    let connected = 0;
    const sockets = Array.from({ length: 8 }, async () => {
      const socket = await connectUnixSocket(path);
      if (++connected === 1) listener.kill('SIGCONT');
      return socket;
    });
    for (const socket of await Promise.all(sockets)) socket.destroy();
    expect(connected).toBe(8);
  } finally {
    listener.kill('SIGKILL');
    await rm(directory, { recursive: true });
  }
});
