import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { Duplex, Readable } from 'node:stream';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { connectProgram, openSocketDoor } from '../../src/doors/socket-door.js';
import type { ClientIdentity } from '../../src/front/identity.js';
import { WorkerClient } from '../../src/daemon/worker-client.js';
import { REPOSITORY } from '../support/drover.js';
import { deferred } from '../support/deferred.js';
import { FrontBench } from '../support/front-bench.js';
import { describeWith } from '../support/requirements.js';
import { VERSION } from '../support/scripted-daemon.js';
import { within } from '../support/wait.js';

const CONNECT = join(REPOSITORY, 'dist/drover-connect');

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp('/tmp/door-');
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

async function listening(server: Server, path: string): Promise<Server> {
  server.listen(path);
  await once(server, 'listening');
  return server;
}

describeWith('the socket door', ['dist'], () => {
  test('is for its owner alone', async () => {
    const path = join(dir, 'd/nix.sock');
    const door = await openSocketDoor(new FrontBench().front, path, { connect: CONNECT, restartGraceMs: 0 });
    const mode = async (file: string): Promise<number> => (await stat(file)).mode & 0o777;
    expect(await mode(join(dir, 'd'))).toBe(0o700);
    expect(await mode(path)).toBe(0o600);
    expect(await readdir(join(dir, 'd'))).toEqual(['connect', 'connect.grace', 'connect.sock', 'nix.sock']);
    await door.close();
    expect(await readdir(join(dir, 'd'))).toEqual([
      ...['connect', 'connect.down', 'connect.grace', 'connect.sock'],
    ]);
  });

  test('identifies a client by its uid, and trusts it', async () => {
    const path = join(dir, 'd/nix.sock');
    const served = deferred<ClientIdentity>();
    const front = {
      serve: (stream: Duplex, identity: ClientIdentity) => {
        stream.destroy();
        served.resolve(identity);
        return Promise.resolve();
      },
    };
    const door = await openSocketDoor(front, path, { connect: CONNECT, restartGraceMs: 0 });
    await execa(CONNECT, [path], { input: '' });
    const uid = process.getuid?.() ?? -1;
    const identity = { door: 'socket', domain: `uid:${uid}`, name: `uid ${uid}`, trusted: true };
    expect(await within('the session', served.promise)).toEqual(identity);
    await door.close();
  });

  test('refuses a directory that others can enter, and leaves it as it is', async () => {
    await chmod(dir, 0o755);
    const opening = openSocketDoor(new FrontBench().front, join(dir, 'nix.sock'), {
      connect: CONNECT,
      restartGraceMs: 0,
    });
    await expect(opening).rejects.toMatchObject({
      code: 'DIRECTORY_NOT_PRIVATE',
      hint: expect.stringContaining('chmod 700'),
    });
    expect((await stat(dir)).mode & 0o777).toBe(0o755);
  });

  test('can have the very name that its program looks for', async () => {
    const path = join(dir, 'connect.sock');
    const door = await openSocketDoor(new FrontBench().front, path, { connect: CONNECT, restartGraceMs: 0 });
    expect((await stat(path)).isSocket()).toBe(true);
    await door.close();
  });

  test('replaces a stale socket, and a file in place of its program', async () => {
    const path = join(dir, 'nix.sock');
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await execa(process.execPath, ['-e', script], { reject: false });
    expect(existsSync(path)).toBe(true);
    await writeFile(connectProgram(path), 'old', { mode: 0o600 });
    const door = await openSocketDoor(new FrontBench().front, path, { connect: CONNECT, restartGraceMs: 0 });
    expect(await readlink(connectProgram(path))).toBe(CONNECT);
    await door.close();
  });

  test('rejects a socket in use, and a file that is not a socket', async () => {
    const path = join(dir, 'nix.sock');
    const other = await listening(createServer(), path);
    const { front } = new FrontBench();
    await expect(openSocketDoor(front, path, { connect: CONNECT, restartGraceMs: 0 })).rejects.toMatchObject({
      code: 'ADDRESS_IN_USE',
    });
    other.close();
    const file = join(dir, 'file');
    await writeFile(file, 'precious');
    await expect(openSocketDoor(front, file, { connect: CONNECT, restartGraceMs: 0 })).rejects.toMatchObject({
      code: 'ADDRESS_IN_USE',
    });
    expect(await readFile(file, 'utf8')).toBe('precious');
  });

  test('can be reached through its program, wherever that is, and closes with clients inside', async () => {
    const odd = join(dir, `it's "odd" $HOME`);
    await mkdir(odd, { mode: 0o700 });
    const path = join(odd, 'nix.sock');
    const bench = new FrontBench();
    const door = await openSocketDoor(bench.front, path, { connect: CONNECT, restartGraceMs: 0 });
    const child = spawn(connectProgram(path), ['--stdio'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = once(child, 'close');
    const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
    const client = await WorkerClient.connect(stream, VERSION, 'Drover');
    expect(client.handshake.daemonNixVersion).toBe('2.8.0');
    await within('the door to close', door.close());
    expect(await within('the end of the program', ended)).toEqual([0, null]);
  });
});

describeWith('drover-connect beside a door that is closed', ['dist'], () => {
  test('waits for the next supervisor, and serves then', async () => {
    const path = join(dir, 'd/nix.sock');
    const bench = new FrontBench();
    const options = { connect: CONNECT, restartGraceMs: 3_600_000 };
    const first = await openSocketDoor(bench.front, path, options);
    await first.suspend();
    const client = spawn(join(dir, 'd/connect'), ['--stdio'], { stdio: ['pipe', 'pipe', 'pipe'] });
    await within('its word', once(client.stderr, 'data'));
    await first.close();
    expect(client.exitCode).toBeNull();
    const second = await openSocketDoor(bench.front, path, options);
    const stream = Duplex.from({ readable: client.stdout, writable: client.stdin });
    const worker = await within('the session', WorkerClient.connect(stream, VERSION, 'Drover'));
    worker.channel.end();
    await second.close();
  });

  test('keeps its connections while the door is suspended', async () => {
    const path = join(dir, 'd/nix.sock');
    const bench = new FrontBench();
    const door = await openSocketDoor(bench.front, path, { connect: CONNECT, restartGraceMs: 0 });
    const client = spawn(join(dir, 'd/connect'), ['--stdio'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const stream = Duplex.from({ readable: client.stdout, writable: client.stdin });
    const worker = await within('the session', WorkerClient.connect(stream, VERSION, 'Drover'));
    await door.suspend();
    expect(await worker.queryValidPaths([])).toEqual([]);
    worker.channel.end();
    await door.close();
  });

  test.each(['is closed', 'was left by a supervisor that was killed'])(
    'gives up when the time is over, and says what to do: the door %s',
    async (how) => {
      const path = join(dir, 'd/nix.sock');
      const bench = new FrontBench();
      const door = await openSocketDoor(bench.front, path, { connect: CONNECT, restartGraceMs: 0 });
      await door.close();
      if (how !== 'is closed') await rm(join(dir, 'd/connect.down'));
      const { exitCode, stderr } = await execa(join(dir, 'd/connect'), { input: '', reject: false });
      expect(exitCode).toBe(1);
      expect(stderr).toContain('Drover is not running: start its service, or `drover serve`');
      expect(await readdir(join(dir, 'd'))).toContain('connect.down');
    },
  );
});

describeWith('drover-connect', ['dist'], () => {
  test('tells by its status and in words what is wrong', async () => {
    const usage = await execa('drover-connect', ['--stdio'], {
      reject: false,
      env: { PATH: dirname(CONNECT) },
    });
    expect([usage.exitCode, usage.stderr]).toEqual([2, 'usage: drover-connect SOCKET']);
    const absent = await execa(CONNECT, [join(dir, 'absent')], { reject: false });
    expect(absent.exitCode).toBe(1);
    expect(absent.stderr).toContain('Drover is not running: start its service');
    const own = await execa(CONNECT, ['--stdio'], { reject: false });
    expect([own.exitCode, own.stderr.includes(`at ${CONNECT}.sock: No such file`)]).toEqual([1, true]);
    const long = await execa(CONNECT, [join(dir, 'x'.repeat(200))], { reject: false });
    expect([long.exitCode, long.stderr.includes('File name too long')]).toEqual([1, true]);
  });

  test('passes the end of its input on, and still brings the answer', async () => {
    const path = join(dir, 's');
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      const parts: Buffer[] = [];
      socket.on('data', (part: Buffer) => parts.push(part));
      socket.on('end', () => socket.end(`got ${Buffer.concat(parts).toString()}`));
    });
    await listening(server, path);
    const { stdout, exitCode } = await execa(CONNECT, [path], { input: 'everything' });
    expect([exitCode, stdout]).toEqual([0, 'got everything']);
    server.close();
  });

  test('ends when the socket does, though its input stays open', async () => {
    const path = join(dir, 's');
    const server = await listening(
      createServer((socket) => socket.end('bye')),
      path,
    );
    const child = spawn(CONNECT, [path], { stdio: ['pipe', 'ignore', 'inherit'] });
    child.stdin.on('error', () => undefined);
    expect(await within('the end of drover-connect', once(child, 'close'))).toEqual([0, null]);
    server.close();
  });

  test('ends when the reader of its output has gone', async () => {
    const path = join(dir, 's');
    const server = createServer((socket: Socket) => {
      socket.on('error', () => undefined);
      Readable.from(
        (function* () {
          for (;;) yield Buffer.alloc(65_536);
        })(),
      ).pipe(socket);
    });
    await listening(server, path);
    const child = spawn(CONNECT, [path], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.on('error', () => undefined);
    child.stdout.destroy();
    expect(await within('the end of drover-connect', once(child, 'close'))).toEqual([0, null]);
    server.close();
  });

  test('carries 100 MB both ways at the same time, through a peer that sends back what it gets', async () => {
    const path = join(dir, 's');
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
    await listening(server, path);
    const block = randomBytes(1024 * 1024);
    const blocks = 100;
    const child = spawn(CONNECT, [path], { stdio: ['pipe', 'pipe', 'inherit'] });
    Readable.from(
      (function* () {
        for (let i = 0; i < blocks; i++) yield block;
      })(),
    ).pipe(child.stdin);
    const received = createHash('sha256');
    const startedAt = performance.now();
    await within(
      'the bytes to come back',
      (async () => {
        for await (const chunk of child.stdout) received.update(chunk as Buffer);
      })(),
    );
    const expected = createHash('sha256');
    for (let i = 0; i < blocks; i++) expected.update(block);
    expect(received.digest('hex')).toBe(expected.digest('hex'));
    process.stdout.write(
      `100 MB through drover-connect and back: ${Math.round(performance.now() - startedAt)} ms\n`,
    );
    server.close();
  });

  test('starts in no time', async () => {
    const path = join(dir, 's');
    const server = await listening(
      createServer((socket) => socket.end()),
      path,
    );
    const startedAt = performance.now();
    for (let i = 0; i < 20; i++) await execa(CONNECT, [path], { stdin: 'ignore' });
    process.stdout.write(`drover-connect: ${((performance.now() - startedAt) / 20).toFixed(1)} ms each\n`);
    server.close();
  });
});
