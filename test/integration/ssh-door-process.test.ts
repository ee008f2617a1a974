import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { describeWith } from '../support/requirements.js';
import { sendPacket, sshClient, sshString, uint32, Message } from '../support/raw-ssh.js';
import { makeKey } from '../support/drover.js';
import { SshBench, sshClientOf } from '../support/ssh.js';
import { closeOf, waitUntil, within } from '../support/wait.js';

/** Opens a session of the worker protocol over a connection of its own. */
async function openSession(bench: SshBench, key = 'listed'): Promise<{ closed: Promise<unknown> }> {
  const before = bench.bench.front.sessions;
  const client = await sshClient(bench.door.port, join(bench.dir, key));
  const closed = closeOf(client);
  client.exec('nix-daemon --stdio', () => undefined);
  await waitUntil('the session', () => bench.bench.front.sessions > before);
  return { closed };
}

describeWith('the process of the ssh door', ['root', 'ssh', 'dist'], () => {
  test('has no rights, and sees no files', async () => {
    await using bench = await SshBench.start();
    const status = await readFile(`/proc/${bench.door.pid ?? 0}/status`, 'utf8');
    const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
    expect(field('Uid').split(/\s+/)).not.toContain('0');
    expect(field('Groups').trim().split(/\s+/)).toEqual([field('Gid').split(/\s+/)[0]]);
    expect(field('CapPrm')).toMatch(/^0+$/);
    expect({ noNewPrivs: field('NoNewPrivs'), seccomp: field('Seccomp') }).toEqual({
      noNewPrivs: '1',
      seccomp: '2',
    });
    const command = await readFile(`/proc/${bench.door.pid ?? 0}/cmdline`, 'utf8');
    expect(command).not.toContain('PRIVATE KEY');
  });

  test('is started again when it ends, with its connections and with nothing else', async () => {
    await using bench = await SshBench.start();
    const { closed } = await openSession(bench);
    const other = bench.bench.open();
    const { pid } = bench.door;
    process.kill(pid ?? 0, 'SIGKILL');
    await within('the client to be cut off', closed);
    await waitUntil('the end of its session', () => bench.bench.front.sessions === 1);
    await waitUntil('another process', () => bench.door.pid !== undefined && bench.door.pid !== pid);
    await openSession(bench);
    expect(bench.bench.front.sessions).toBe(2);
    other.stream.destroy();
  });

  test('knows at once which keys are listed', async () => {
    await using bench = await SshBench.start();
    const { publicKey } = await makeKey(join(bench.dir, 'second'));
    const [listed, second] = [
      sshClientOf((await readFile(join(bench.dir, 'listed.pub'), 'utf8')).trim()),
      sshClientOf(publicKey),
    ];
    const first = await openSession(bench);
    bench.door.configure([listed, second], 100);
    const added = await openSession(bench, 'second');
    bench.door.configure([second], 100);
    await within('the removed client to be cut off', first.closed);
    await waitUntil('the end of its session', () => bench.bench.front.sessions === 1);
    expect((await bench.ssh([...bench.args('listed'), 'true'])).stderr).toContain('Permission denied');
    bench.door.configure([{ ...second, trusted: true }], 100);
    await within('the client with other rights to be cut off', added.closed);
  });

  test('keeps the number of sessions of one client', async () => {
    await using bench = await SshBench.start({ maxSessions: 2 });
    await openSession(bench);
    await openSession(bench);
    const { exitCode, stderr } = await bench.ssh([...bench.args(), 'nix-daemon', '--stdio']);
    expect({ exitCode, sessions: bench.bench.front.sessions }).toEqual({ exitCode: 1, sessions: 2 });
    expect(stderr).toContain('has 2 open sessions, its limit');
  });

  test('lets a client with a key in while strangers take all the room they can', async () => {
    await using bench = await SshBench.start();
    const sockets = new Set<Socket>();
    let isOver = false;
    const hold = (): void => {
      if (isOver) return;
      const socket = connect(bench.door.port, '127.0.0.1').on('error', () => undefined);
      sockets.add(socket);
      socket.once('close', () => {
        sockets.delete(socket);
        hold();
      });
    };
    for (let count = 0; count < 80; count++) hold();
    await waitUntil('strangers', () => sockets.size >= 32);
    for (let attempt = 0; attempt < 5; attempt++)
      expect((await bench.ssh([...bench.args(), 'true'])).exitCode).toBe(127);
    isOver = true;
    for (const socket of sockets) socket.destroy();
  });

  test.each([
    [
      'packets of no size',
      (client: Parameters<typeof sendPacket>[0]) => {
        sendPacket(client, Message.channelOpen, sshString('session'), uint32(0), uint32(2 ** 31), uint32(0));
        sendPacket(client, Message.channelRequest, uint32(0), sshString('exec'), 1, sshString('id'));
      },
    ],
    [
      'a torrent of requests that it never reads the answers of',
      (client: Parameters<typeof sendPacket>[0]) => {
        for (let count = 0; count < 1000; count++)
          sendPacket(client, Message.globalRequest, sshString('x'.repeat(1000)), 1);
        client.destroy();
      },
    ],
  ])('survives a client that asks for %s', async (_, attack) => {
    await using bench = await SshBench.start();
    const { pid } = bench.door;
    const client = await sshClient(bench.door.port, join(bench.dir, 'listed'));
    const closed = closeOf(client);
    attack(client);
    await within('the client to be gone', closed);
    expect((await bench.ssh([...bench.args(), 'true'])).exitCode).toBe(127);
    expect(bench.door.pid).toBe(pid);
  });

  test('holds little for a client that does not read', async () => {
    await using bench = await SshBench.start();
    const { pid } = bench.door;
    const client = await sshClient(bench.door.port, join(bench.dir, 'listed'));
    const sent: Promise<void>[] = [];
    bench.bench.front.serve = (stream) => {
      // As much as the door takes.
      const block = Buffer.alloc(64 * 1024);
      while (stream.write(block) || stream.writableLength < 8 * 1024 * 1024);
      sent.push(closeOf(stream));
      return Promise.resolve();
    };
    for (let channel = 0; channel < 8; channel++) {
      sendPacket(
        client,
        Message.channelOpen,
        sshString('session'),
        uint32(channel),
        uint32(2 ** 32 - 1),
        uint32(32_768),
      );
      sendPacket(
        client,
        Message.channelRequest,
        uint32(channel),
        sshString('exec'),
        1,
        sshString('nix-daemon --stdio'),
      );
    }
    (client as unknown as { _sock: Socket })._sock.pause();
    await waitUntil('all sessions', () => sent.length === 8);
    const resident = async (): Promise<number> =>
      Number(/^VmRSS:\s+(\d+)/m.exec(await readFile(`/proc/${pid ?? 0}/status`, 'utf8'))?.[1]);
    expect((await bench.ssh([...bench.args(), 'true'])).exitCode).toBe(127);
    expect(await resident()).toBeLessThan(150_000);
    client.destroy();
    await within('the ends of the sessions', Promise.all(sent));
  });
});
