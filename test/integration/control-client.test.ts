import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';

import { expect, test } from '@jest/globals';

import { fetchStatus } from '../../src/control/client.js';
import { StateDir } from '../../src/lib/state-dir.js';

test('tells a supervisor that does not answer from one that does not run', async () => {
  const stateDir = await mkdtemp('/tmp/control-');
  try {
    await expect(fetchStatus(stateDir)).rejects.toMatchObject({
      code: 'NOT_RUNNING',
      message: expect.stringContaining(`No supervisor answers at ${stateDir}/control.sock`),
    });

    const silent = createServer((socket) => socket.resume()).listen(new StateDir(stateDir).controlSocket);
    await once(silent, 'listening');
    await expect(fetchStatus(stateDir, 100)).rejects.toMatchObject({
      code: 'NOT_RUNNING',
      message: `The supervisor at ${stateDir}/control.sock did not answer within 0.1 s`,
      hint: expect.stringContaining('drover.pid'),
    });
    silent.close();
  } finally {
    await rm(stateDir, { recursive: true });
  }
});
