import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { openSession, sshClient } from '../support/raw-ssh.js';
import { describeWith } from '../support/requirements.js';
import { SshBench } from '../support/ssh.js';
import { closeOf, waitUntil, within } from '../support/wait.js';

const NIX = 'nix-daemon --stdio';

describeWith('the ssh door, attacked by a client with a listed key', ['ssh', 'dist'], () => {
  test.each([
    [
      'exec',
      [
        ['exec', NIX],
        ['exec', NIX],
      ],
    ],
    [
      'shell',
      [
        ['exec', NIX],
        ['shell', ''],
      ],
    ],
    [
      'subsystem',
      [
        ['exec', NIX],
        ['subsystem', 'sftp'],
      ],
    ],
    [
      'exec after a shell',
      [
        ['shell', ''],
        ['exec', NIX],
      ],
    ],
    [
      'exec after a refused exec',
      [
        ['exec', 'id'],
        ['exec', NIX],
      ],
    ],
  ] as const)('survives a second request on one channel: %s', async (_, requests) => {
    await using bench = await SshBench.start();
    const client = await sshClient(bench.door.port, join(bench.dir, 'listed'));
    const closed = closeOf(client);
    openSession(client, 0, requests);
    await within('the client to be cut off', closed);
    await waitUntil('the end of its sessions', () => bench.bench.front.sessions === 0);
    const next = await bench.ssh([...bench.args(), 'true']);
    expect(next.exitCode).toBe(127);
  });
});
