import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, readdir, readFile, stat } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { buffer, text } from 'node:stream/consumers';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import { connectVsock } from '../../src/drivers/vz/helper-vsock.js';
import { run } from '../../src/lib/process.js';
import { describeWith } from '../support/requirements.js';
import { buildVzHelper, RawHelper } from '../support/vz-helper.js';
import { waitUntil, within } from '../support/wait.js';

const MEBIBYTE = 1024 * 1024;
const CHUNK = randomBytes(MEBIBYTE);
/** Two buffers, and a thread's own. */
const MEMORY_PER_CONNECTION = 320 * 1024;
/** For what the runtime does once. */
const MEMORY_SLACK = 4 * MEBIBYTE;

async function send(socket: Socket, bytes: number): Promise<void> {
  for (let left = bytes; left > 0; left -= CHUNK.length) {
    if (!socket.write(left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK)) await once(socket, 'drain');
  }
  socket.end();
}

async function drain(socket: Socket): Promise<number> {
  let bytes = 0;
  for await (const chunk of socket) bytes += (chunk as Buffer).length;
  return bytes;
}

describeWith("vz-helper's vsock", ['vz-helper'], () => {
  let program: string;
  let helper: RawHelper;
  beforeAll(async () => {
    program = await buildVzHelper();
    helper = await RawHelper.running(program, { guest: true, knobs: ['halfClose'] });
  });
  afterAll(async () => {
    await helper[Symbol.asyncDispose]();
  });

  const vsock = async (port: number): Promise<Socket> => {
    const socket = await connectVsock(helper.path('vsock.sock'), port);
    socket.on('error', () => undefined);
    return socket;
  };
  const command = async (line: string): Promise<string> => {
    const socket = await vsock(11);
    socket.end(`${line}\n`);
    return await within(line, text(socket));
  };
  const descriptors = async (): Promise<number> => (await readdir(`/proc/${helper.pid}/fd`)).length;
  /** The answer to a first line, and nothing after it. */
  const answer = async (line: string): Promise<string> => {
    const socket = helper.socket();
    socket.write(line);
    return await within('an answer', text(socket));
  };

  test('takes 4 GiB to the guest in bounded memory', async () => {
    const before = await helper.peakMemoryBytes();
    const socket = await vsock(9);
    const counted = text(socket);
    await send(socket, 4096 * MEBIBYTE);
    expect(await within('the count', counted)).toBe(`${4096 * MEBIBYTE}\n`);
    expect(await helper.peakMemoryBytes()).toBeLessThan(before + MEMORY_PER_CONNECTION + MEMORY_SLACK);
  });

  test('takes 1 GiB from the guest in bounded memory', async () => {
    const before = await helper.peakMemoryBytes();
    const socket = await vsock(19);
    socket.write(`${1024 * MEBIBYTE}\n`);
    expect(await drain(socket)).toBe(1024 * MEBIBYTE);
    socket.end();
    expect(await helper.peakMemoryBytes()).toBeLessThan(before + MEMORY_PER_CONNECTION + MEMORY_SLACK);
  });

  test('carries 64 streams at once, each its own bytes both ways', async () => {
    const before = await helper.peakMemoryBytes();
    const sockets = await Promise.all(Array.from({ length: 64 }, async () => await vsock(7)));
    const matches = sockets.map(async (socket, index) => {
      const first = Buffer.from(`stream ${index}\n`);
      const sent = createHash('sha256').update(first);
      const got = buffer(socket);
      socket.write(first);
      for (let n = 0; n < 4; n++) sent.update(CHUNK);
      await send(socket, 4 * MEBIBYTE);
      return (
        sent.digest('hex') ===
        createHash('sha256')
          .update(await got)
          .digest('hex')
      );
    });
    expect(await within('64 streams', Promise.all(matches))).toEqual(sockets.map(() => true));
    expect(await helper.peakMemoryBytes()).toBeLessThan(before + 64 * MEMORY_PER_CONNECTION + MEMORY_SLACK);
  });

  test('passes on an end of file from the guest, and goes on the other way', async () => {
    const socket = await vsock(15);
    socket.resume();
    await once(socket, 'end');
    await send(socket, 3 * MEBIBYTE);
    await helper.printed(`port 15 got ${3 * MEBIBYTE}`);
  });

  test('reads no further ahead than it may while the guest does not read', async () => {
    const blocked = await vsock(13);
    const counted = text(blocked);
    blocked.write(Buffer.alloc(64 * MEBIBYTE));
    const other = await vsock(7);
    const echoed = drain(other);
    await send(other, 64 * MEBIBYTE);
    expect(await echoed).toBe(64 * MEBIBYTE);
    // All that the kernel's buffers and the helper's own hold.
    expect(blocked.bytesWritten - blocked.writableLength).toBeLessThan(3 * MEBIBYTE);
    expect(await command('read')).toBe('done\n');
    blocked.end();
    expect(await within('the count', counted)).toBe(`${64 * MEBIBYTE}\n`);
  });

  test('holds back the guest while the client does not read', async () => {
    const blocked = await vsock(19);
    blocked.write(`${64 * MEBIBYTE}\n`);
    await once(blocked, 'readable');
    const before = await helper.peakMemoryBytes();
    const other = await vsock(19);
    other.write(`${64 * MEBIBYTE}\n`);
    expect(await drain(other)).toBe(64 * MEBIBYTE);
    other.end();
    expect(await helper.peakMemoryBytes()).toBeLessThan(before + MEMORY_PER_CONNECTION + MEMORY_SLACK);
    expect(await drain(blocked)).toBe(64 * MEBIBYTE);
    blocked.end();
  });

  test('keeps nothing of connections that ended', async () => {
    const churn = async (): Promise<void> => {
      for (let round = 0; round < 10; round++)
        await Promise.all(
          Array.from({ length: 50 }, async () => {
            const socket = await vsock(7);
            socket.end('a few bytes');
            expect(await text(socket)).toBe('a few bytes');
          }),
        );
    };
    await waitUntil('all descriptors to be closed', async () => (await descriptors()) < 20);
    await churn();
    const memory = await helper.peakMemoryBytes();
    await churn();
    await churn();
    expect(await helper.peakMemoryBytes()).toBeLessThan(memory + MEMORY_SLACK);
    await waitUntil('all descriptors to be closed', async () => (await descriptors()) < 20);
  });

  test('lets go of the guest when a client is gone, whatever the guest does', async () => {
    await waitUntil('all descriptors to be closed', async () => (await descriptors()) < 20);
    const before = await descriptors();
    const idle = await vsock(13); // the guest neither reads nor ends
    idle.destroy();
    const blocked = await vsock(19); // the guest sends, and the client does not read
    blocked.write(`${64 * MEBIBYTE}\n`);
    await once(blocked, 'readable');
    blocked.destroy();
    await waitUntil('their descriptors to be closed', async () => (await descriptors()) <= before);
  });

  test('takes 512 connections at once and refuses more with a reason', async () => {
    await waitUntil('all descriptors to be closed', async () => (await descriptors()) < 20);
    const sockets: Socket[] = [];
    for (let batch = 0; batch < 8; batch++)
      sockets.push(...(await Promise.all(Array.from({ length: 64 }, async () => await vsock(7)))));
    expect(await answer('CONNECT 7\n')).toMatch(/^ERROR vz-helper 7 too many connections\n$/);
    for (const socket of sockets) socket.destroy();
    await waitUntil('all descriptors to be closed', async () => (await descriptors()) < 20);
    const socket = await vsock(7);
    socket.end('again');
    expect(await text(socket)).toBe('again');
  });

  test('a connection for which there is no thread is refused, and the guest goes on', async () => {
    await using helper = await RawHelper.running(program, { guest: true, knobs: ['halfClose'] });
    const status = await readFile(`/proc/${helper.pid}/status`, 'utf8');
    const used = Number(/VmSize:\s*(\d+) kB/.exec(status)?.[1]) * 1024;
    // Each thread takes 8 MiB of address space.
    await run('prlimit', ['--pid', String(helper.pid), `--as=${used + 64 * MEBIBYTE}`]);
    const answers = await Promise.all(
      Array.from({ length: 32 }, async () => {
        const socket = helper.socket();
        socket.write('CONNECT 7\n');
        // A client that writes after the refusal sees an error instead of it.
        const answer = new Promise((resolve) => socket.once('data', resolve).once('close', resolve));
        return String(await within('an answer', answer));
      }),
    );
    expect(answers.some((each) => !each.startsWith('OK '))).toBe(true);
    expect(await helper.ok('hello', { protocol: 1 })).toMatchObject({ protocol: 1 });
  });

  test('passes on what macOS reports for a port without a listener', async () => {
    await expect(vsock(22)).rejects.toMatchObject({
      code: 'VSOCK_REFUSED',
      message: expect.stringMatching(
        /ERROR NSPOSIXErrorDomain 54 .*Connection reset by peer/,
      ) as unknown as string,
    });
  });

  test.each([
    ...['HELLO\n', 'CONNECT\n', 'CONNECT \n', 'CONNECT 0\n', 'CONNECT 4294967295\n', 'CONNECT 99999999999\n'],
    ...['CONNECT 7 \n', 'CONNECT -7\n', 'CONNECT 7\r\n', 'connect 7\n', ' CONNECT 7\n', '\n', 'x'.repeat(40)],
    ...['CONNECT 7x\n', 'CONNECT +7\n', 'CONNECT 0x7\n', `CONNECT 7${' '.repeat(40)}\n`, '\0\0\0\0\n'],
  ])('refuses the line %j', async (line) => {
    expect(await answer(line)).toBe('ERROR vz-helper 2 the first line must be CONNECT and a port\n');
  });

  test('takes the line in pieces, and what comes with it', async () => {
    const line = 'CONNECT 0000000007\n';
    for (let cut = 1; cut < line.length; cut++) {
      const socket = helper.socket();
      socket.setNoDelay();
      socket.write(line.slice(0, cut), () => {
        socket.end(`${line.slice(cut)}pipelined`);
      });
      expect(await within('the echo', text(socket))).toMatch(/^OK \d+\npipelined$/);
    }
  });

  test('gives up on who sends no line, and on a guest that does not answer; waiting costs no time', async () => {
    await using hanging = await RawHelper.running(program, { knobs: ['connectHangs'] });
    const blocked = await vsock(13);
    blocked.write(Buffer.alloc(8 * MEBIBYTE));
    const halfClosed = await vsock(13);
    halfClosed.end();
    const cpuBefore = await cpuSeconds(helper.pid);
    const silent = text(helper.socket());
    const unanswered = connectVsock(hanging.path('vsock.sock'), 7);
    await expect(connectVsock(hanging.path('vsock.sock'), 22, AbortSignal.timeout(1))).rejects.toMatchObject({
      code: 'VSOCK_REFUSED',
      message: "The guest's vsock port 22: it has not answered",
    });
    await expect(within('an error', unanswered)).rejects.toThrow('the guest does not answer');
    expect(await within('an answer', silent)).toMatch(/^ERROR vz-helper 2 /);
    expect((await cpuSeconds(helper.pid)) - cpuBefore).toBeLessThan(0.5);
    blocked.destroy();
    halfClosed.destroy();
  });

  test('refuses before the guest runs, and survives what macOS throws', async () => {
    await using early = await RawHelper.start(program, { knobs: ['connectThrows'] });
    await early.ok('hello', { protocol: 1 });
    await early.ok('configure', { config: early.configuration() });
    const ask = async (): Promise<string> => {
      const socket = early.socket();
      socket.write('CONNECT 7\n');
      return await within('an answer', text(socket));
    };
    expect(await ask()).toBe('ERROR vz-helper 3 the guest is stopped\n');
    await early.ok('start');
    expect(await ask()).toBe('ERROR vz-helper 8 connect throws\n');
  });

  test('ends connections with the guest', async () => {
    await using other = await RawHelper.running(program);
    const socket = await connectVsock(other.path('vsock.sock'), 7);
    socket.on('error', () => undefined).resume();
    const closed = once(socket, 'end');
    other.process.stdin?.end();
    await within('the end of the connection', closed);
  });

  test('is for its own user only', async () => {
    expect((await stat(helper.path('vsock.sock'))).mode & 0o777).toBe(0o600);
    if (process.getuid?.() !== 0) return;
    await chmod(helper.directory, 0o755);
    await chmod(helper.path('vsock.sock'), 0o666);
    const { stdout } = await run('setpriv', [
      ...['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, '-e'],
      `require('net').connect(${JSON.stringify(helper.path('vsock.sock'))})
        .on('error', (error) => console.log(error.code)).on('end', () => console.log('closed'))
        .once('data', (data) => { console.log(String(data)); process.exit(); }).write('CONNECT 7\\n')`,
    ]);
    expect(stdout).toMatch(/^(closed|EPIPE|ECONNRESET)\n/);
    expect(stdout).not.toMatch(/OK/);
  });
});

async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
