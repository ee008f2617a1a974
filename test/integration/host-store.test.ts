import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { hostStore } from '../../src/host-store/host-store.js';
import { errorMessage } from '../../src/lib/errors.js';
import type { StorePath } from '../../src/protocol/store-path.js';
import { FakeClock, settled } from '../support/fake-clock.js';
import { describeWith } from '../support/requirements.js';
import { mountedDirectory, unmount } from '../support/small-disk.js';
import { waitUntil } from '../support/wait.js';

/** One connection can wait, and is taken at each line of standard input. */
const TAKES_ONE_A_LINE = `use Socket; $| = 1; socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un($ARGV[0])) or die;
  listen(S, 0); print "listening\\n"; while (<STDIN>) { accept(my $c, S); push @c, $c; print "taken\\n" }`;

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
  test("is a daemon of Drover's own where none listens, which forgets what is collected", async () => {
    const clock = new FakeClock();
    const own = join(dir, 'own');
    const store = hostStore(env, own, clock);
    const [first, second] = await Promise.all([store.connect(), store.connect()]);
    const daemons = await execa('pgrep', ['-P', String(process.pid), 'nix-daemon']);
    expect(daemons.stdout.split('\n')).toHaveLength(1);
    expect((await stat(own)).mode & 0o777).toBe(0o700);
    expect(await first.queryValidPaths([path])).toEqual([path]);
    const [info] = await first.queryPathInfos([path]);
    if (info === undefined) throw new Error('the path is not valid');
    const parts: Uint8Array[] = [];
    for await (const part of first.narFromPath(path, info)) parts.push(part);
    expect(Buffer.concat(parts).toString()).toContain(dir);

    await writeFile(join(dir, 'collected'), `collected from ${dir}`);
    const added = await execa('nix-store', ['--add', join(dir, 'collected')], { env, extendEnv: false });
    const collected = added.stdout as StorePath;
    await first.addTempRoots([collected]);
    const kept = await execa('nix-store', ['--delete', collected], { env, extendEnv: false, reject: false });
    expect(kept.failed).toBe(true);
    await first[Symbol.asyncDispose]();
    await execa('nix-store', ['--delete', collected], { env, extendEnv: false });
    expect(await second.queryPathInfos([collected])).toEqual([undefined]);
    await second[Symbol.asyncDispose]();

    const daemon = Number(daemons.stdout);
    await waitUntil('the end of the unused daemon', async () => {
      await clock.advance(60_000);
      return !existsSync(`/proc/${daemon}/exe`);
    });
    const third = await store.connect();
    expect(await third.queryValidPaths([path])).toEqual([path]);
    await third[Symbol.asyncDispose]();
    await store.close();
    expect(existsSync(own)).toBe(false);
    await waitUntil('the end of its daemon', async () => {
      const left = await execa('pgrep', ['-P', String(process.pid), 'nix-daemon'], { reject: false });
      return left.stdout === '';
    });
  });

  test('has a daemon again after the end of its own, and says why one does not listen', async () => {
    const store = hostStore(env, join(dir, 'own'));
    const first = await store.connect();
    const { stdout } = await execa('pgrep', ['-P', String(process.pid), 'nix-daemon']);
    process.kill(Number(stdout), 'SIGKILL');
    await waitUntil('its end', () => !existsSync(`/proc/${stdout}/exe`));
    const second = await waitUntil('another one', async () => await store.connect().catch(() => undefined));
    expect(await second.queryValidPaths([path])).toEqual([path]);
    for (const connection of [first, second]) await connection[Symbol.asyncDispose]();
    await store.close();
    await mkdir(join(dir, 'bin'));
    await writeFile(
      join(dir, 'bin/nix-daemon'),
      `#!/bin/sh
# Its last words come after its end.
( while kill -0 $$ 2>/dev/null; do sleep 0.01; done; sleep 0.1; echo "error: nonsense" >&2 ) & exit 1
`,
      {
        mode: 0o755,
      },
    );
    const broken = hostStore({ ...env, PATH: `${dir}/bin:${env['PATH'] ?? ''}` }, join(dir, 'own'));
    await expect(broken.connect()).rejects.toMatchObject({
      code: 'HOST_STORE_UNAVAILABLE',
      message: expect.stringContaining('nix-daemon does not listen: error: nonsense'),
    });
    await broken.close();
  });

  test('has no daemon that would outlive the supervisor', async () => {
    const bin = join(dir, 'orphaning');
    await mkdir(bin);
    const { stdout: setpriv } = await execa('which', ['setpriv']);
    // As if the supervisor ended while setpriv starts: what it becomes has another parent.
    await writeFile(join(bin, 'setpriv'), `#!/bin/sh\n${setpriv} "$@" &\n`, { mode: 0o755 });
    const store = hostStore({ ...env, PATH: `${bin}:${env['PATH'] ?? ''}` }, join(dir, 'own'));
    await expect(store.connect()).rejects.toMatchObject({ code: 'HOST_STORE_UNAVAILABLE' });
    await store.close();
  });

  test('leaves a daemon of another supervisor alone when it closes', async () => {
    const own = join(dir, 'own');
    const store = hostStore(env, own);
    await (await store.connect())[Symbol.asyncDispose]();
    await hostStore(env, own).close();
    expect(existsSync(join(own, 'socket'))).toBe(true);
    const client = await store.connect();
    expect(await client.queryValidPaths([path])).toEqual([path]);
    await client[Symbol.asyncDispose]();
    await store.close();
    expect(existsSync(own)).toBe(false);
  });

  test('is the daemon that listens, over a fresh connection each time', async () => {
    const socket = join(dir, 'socket');
    const daemon = spawn('nix-daemon', [], {
      env: { ...env, NIX_DAEMON_SOCKET_PATH: socket },
      stdio: 'ignore',
    });
    try {
      // PATH is empty: there is no child to fall back to.
      const store = hostStore({ PATH: '/nowhere', NIX_DAEMON_SOCKET_PATH: socket }, join(dir, 'own'));
      const client = await waitUntil('the daemon', async () => await store.connect().catch(() => undefined));
      expect(await client.queryValidPaths([path])).toEqual([path]);
      const second = await store.connect();
      await client[Symbol.asyncDispose]();
      expect(await second.queryValidPaths([path])).toEqual([path]);
      await second[Symbol.asyncDispose]();
      await store.close();
    } finally {
      daemon.kill('SIGKILL');
    }
  });

  test('waits for its turn as long as the daemon takes others', async () => {
    const socket = join(dir, 'slow');
    const daemon = spawn('perl', ['-e', TAKES_ONE_A_LINE, socket], { stdio: ['pipe', 'pipe', 'inherit'] });
    let printed = '';
    daemon.stdout.on('data', (text: Buffer) => (printed += text.toString()));
    try {
      await waitUntil('the daemon to listen', () => printed === 'listening\n');
      const clock = new FakeClock();
      const store = hostStore({ ...env, NIX_DAEMON_SOCKET_PATH: socket }, join(dir, 'own'), clock);
      const ended: string[] = [];
      const connections = Array.from({ length: 5 }, async (_, i) => {
        ended[i] = await store.connect().then(() => 'connected', errorMessage);
      });
      const taken = async (count: number): Promise<void> => {
        daemon.stdin.write('\n');
        await waitUntil('a connection to be taken', () => printed.split('taken').length > count);
      };
      await taken(1);
      await clock.advance(20_000);
      await taken(2);
      await clock.advance(20_000);
      await taken(3);
      expect(ended).not.toContainEqual(expect.stringContaining('cannot be reached'));
      await waitUntil('all to have ended', async () => {
        await clock.advance(1000);
        return Object.keys(ended).length === 5;
      });
      await Promise.all(connections);
      // The others had a place in the queue, but were never spoken to.
      const silent = expect.stringContaining('does not answer');
      const full = expect.stringContaining('cannot be reached');
      expect(ended).toEqual([silent, silent, silent, silent, full]);
      await store.close();
    } finally {
      daemon.kill('SIGKILL');
    }
  });

  test('says so where there is no Nix', async () => {
    await expect(hostStore({ ...env, PATH: '/nowhere' }, join(dir, 'own')).connect()).rejects.toMatchObject({
      code: 'HOST_STORE_UNAVAILABLE',
      message: `There is no Nix on this host: nothing listens at ${join(dir, 'absent')}, and nix-daemon is not on PATH`,
      hint: expect.stringContaining('Install Nix'),
    });
  });

  test('gives up on a daemon that does not answer, and on a program that is not a daemon', async () => {
    const socket = join(dir, 'silent');
    const server = createServer((other) => other.on('error', () => undefined).resume());
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    const clock = new FakeClock();
    const connecting = hostStore(
      { ...env, NIX_DAEMON_SOCKET_PATH: socket },
      join(dir, 'own'),
      clock,
    ).connect();
    const failed = expect(connecting).rejects.toMatchObject({ code: 'HOST_STORE_UNAVAILABLE' });
    await waitUntil('the handshake', () => clock.pendingTimers === 1);
    await clock.advance(30_000);
    await failed;
    server.on('connection', (other) => other.end('220 mail.example.org ESMTP\r\n'));
    await settled();
    await expect(
      hostStore({ ...env, NIX_DAEMON_SOCKET_PATH: socket }, join(dir, 'own'), clock).connect(),
    ).rejects.toMatchObject({
      code: 'HOST_STORE_UNAVAILABLE',
      message: expect.stringContaining('is not a nix-daemon'),
    });
    server.close();
  });
});

describeWith("the host's store beside a full disk", ['nix', 'root'], () => {
  test('has no daemon of its own, and says what the host lacks', async () => {
    // One inode: that of the directory itself.
    const full = await mountedDirectory('nr_inodes=1');
    const store = hostStore(env, join(full, 'own'));
    try {
      await expect(store.connect()).rejects.toMatchObject({
        code: 'HOST_EXHAUSTED',
        hint: expect.stringContaining('Free some space'),
      });
    } finally {
      await store.close();
      await unmount(full);
    }
  });
});
