import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { hostStore } from '../../src/host-store/host-store.js';
import type { StorePath } from '../../src/protocol/store-path.js';
import { FakeClock, settled } from '../support/fake-clock.js';
import { describeWith } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

let dir = '';
let path = '' as StorePath;
/** A Nix with a store of its own, whose paths are called as everywhere. */
let env: NodeJS.ProcessEnv = {};

beforeAll(async () => {
  dir = await mkdtemp('/tmp/host-store-');
  env = {
    PATH: process.env['PATH'],
    HOME: dir,
    NIX_CONF_DIR: dir,
    NIX_REMOTE: `local?root=${dir}/root`,
    NIX_DAEMON_SOCKET_PATH: join(dir, 'absent'),
  };
  await writeFile(join(dir, 'file'), dir);
  const { stdout } = await execa('nix-store', ['--add', join(dir, 'file')], { env, extendEnv: false });
  path = stdout as StorePath;
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

describeWith("the host's store", ['nix', 'procps'], () => {
  test('is a nix-daemon child where no daemon listens, which ends with its connection', async () => {
    const store = hostStore(env);
    const client = await store.connect();
    expect(await client.queryValidPaths([path])).toEqual([path]);
    const [info] = await client.queryPathInfos([path]);
    if (info === undefined) throw new Error('the path is not valid');
    const parts: Uint8Array[] = [];
    for await (const part of client.narFromPath(path, info)) parts.push(part);
    expect(Buffer.concat(parts).toString()).toContain(dir);
    const { stdout } = await execa('pgrep', ['-P', String(process.pid), 'nix-daemon']);
    const children = stdout.split('\n');
    store.close();
    await client[Symbol.asyncDispose]();
    await waitUntil('the end of the nix-daemon child', async () => {
      const left = await execa('pgrep', ['-P', String(process.pid), 'nix-daemon'], { reject: false });
      return !children.some((pid) => left.stdout.split('\n').includes(pid));
    });
  });

  test('is one child for sessions that overlap, which forgets what is collected', async () => {
    const store = hostStore(env);
    const first = await store.connect();
    const second = await store.connect();
    const children = await execa('pgrep', ['-P', String(process.pid), 'nix-daemon']);
    // The one that both use, and the one for the next session.
    expect(children.stdout.split('\n')).toHaveLength(2);

    await writeFile(join(dir, 'collected'), `collected from ${dir}`);
    const added = await execa('nix-store', ['--add', join(dir, 'collected')], { env, extendEnv: false });
    const collected = added.stdout as StorePath;
    expect((await first.queryPathInfos([collected]))[0]).toBeDefined();
    await execa('nix-store', ['--delete', collected], { env, extendEnv: false });
    expect(await second.queryPathInfos([collected])).toEqual([undefined]);
    expect(await first.queryValidPaths([collected])).toEqual([]);

    await first[Symbol.asyncDispose]();
    expect(await second.queryValidPaths([path])).toEqual([path]);
    store.close();
    await second[Symbol.asyncDispose]();
    await waitUntil('the end of the child', () => second.gone.aborted);
  });

  test('is the daemon that listens, over a fresh connection each time', async () => {
    const socket = join(dir, 'socket');
    const daemon = spawn('nix-daemon', [], {
      env: { ...env, NIX_DAEMON_SOCKET_PATH: socket },
      stdio: 'ignore',
    });
    try {
      // PATH is empty: there is no child to fall back to.
      const store = hostStore({ PATH: '/nowhere', NIX_DAEMON_SOCKET_PATH: socket });
      const client = await waitUntil('the daemon', async () => await store.connect().catch(() => undefined));
      expect(await client.queryValidPaths([path])).toEqual([path]);
      const second = await store.connect();
      await client[Symbol.asyncDispose]();
      expect(await second.queryValidPaths([path])).toEqual([path]);
      await second[Symbol.asyncDispose]();
    } finally {
      daemon.kill('SIGKILL');
    }
  });

  test('says so where there is no Nix', async () => {
    await expect(hostStore({ ...env, PATH: '/nowhere' }).connect()).rejects.toMatchObject({
      code: 'HOST_STORE_UNAVAILABLE',
      message: `There is no Nix on this host: nothing listens at ${join(dir, 'absent')}, and nix-daemon is not on PATH`,
      hint: expect.stringContaining('Install Nix'),
    });
  });

  test('gives up on a daemon that does not answer, and on a program that is not a daemon', async () => {
    const socket = join(dir, 'silent');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    const clock = new FakeClock();
    const connecting = hostStore({ ...env, NIX_DAEMON_SOCKET_PATH: socket }, clock).connect();
    const failed = expect(connecting).rejects.toMatchObject({ code: 'HOST_STORE_UNAVAILABLE' });
    await waitUntil('the handshake', () => clock.pendingTimers === 1);
    await clock.advance(30_000);
    await failed;
    server.on('connection', (other) => other.end('220 mail.example.org ESMTP\r\n'));
    await settled();
    await expect(
      hostStore({ ...env, NIX_DAEMON_SOCKET_PATH: socket }, clock).connect(),
    ).rejects.toMatchObject({
      code: 'HOST_STORE_UNAVAILABLE',
      message: expect.stringContaining('is not a nix-daemon'),
    });
    server.close();
  });
});
