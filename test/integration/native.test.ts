import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { duplicateListener, peerUid } from '../../src/lib/native.js';
import { describeWith } from '../support/requirements.js';

const NOBODY = { uid: 65_534, gid: 65_534 };
const asRoot = process.getuid?.() === 0 ? test : test.skip;

describeWith('the native addon', ['dist'], () => {
  asRoot('names the user at the other end of a Unix socket', async () => {
    const dir = await mkdtemp('/tmp/native-');
    const path = join(dir, 's');
    const server = createServer().listen({ path, readableAll: true, writableAll: true });
    try {
      await once(server, 'listening');
      await chmod(dir, 0o755);
      const script = `require('net').connect(${JSON.stringify(path)}).resume()`;
      const client = execa(process.execPath, ['-e', script], { ...NOBODY, cwd: '/' });
      const [socket] = (await once(server, 'connection')) as [Socket];
      expect(peerUid(socket)).toBe(NOBODY.uid);
      socket.destroy();
      expect(() => peerUid(socket)).toThrow('expected a file descriptor');
      await client;
    } finally {
      server.close();
      await rm(dir, { recursive: true });
    }
  });

  test('keeps a port open after its server has closed', async () => {
    const first = createServer().listen(0, '127.0.0.1');
    await once(first, 'listening');
    const { port } = first.address() as { port: number };
    const fd = duplicateListener(first);
    first.close();
    await once(first, 'close');
    const second = createServer().listen({ fd });
    const client = connect(port, '127.0.0.1');
    const [socket] = (await once(second, 'connection')) as [Socket];
    socket.destroy();
    client.destroy();
    second.close();
  });
});
