import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';

import { afterEach, beforeEach, expect, test } from '@jest/globals';

import { MAX_INPUT_BYTES, type FromProgram } from '../../src/guest/program.js';
import { SshChannel } from '../../src/guest/ssh-channel.js';
import type { Clock } from '../../src/lib/clock.js';
import { makeSshKeyPair } from '../../src/lib/ssh-key.js';
import { FakeClock } from '../support/fake-clock.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil, within } from '../support/wait.js';

const MIB = 1024 * 1024;
/** OpenSSH's server as a guest runs it: one connection, over whatever it is given. It wants a directory of its own. */
const START = `
  mount -t tmpfs run /run
  mkdir /run/sshd
  exec /usr/sbin/sshd -i -e -f "$1"
`;

describeE2e('the connection to a guest', ['sshd'], () => {
  const host = makeSshKeyPair();
  const client = makeSshKeyPair();
  let dir: string;
  let sshd: ReturnType<typeof spawn>;
  let stream: Duplex;

  beforeEach(async () => {
    dir = await mkdtemp('/tmp/sc-');
    await writeFile(join(dir, 'host_key'), host.privateKey, { mode: 0o600 });
    await writeFile(join(dir, 'authorized_keys'), `restrict,port-forwarding,pty ${client.publicKey}\n`);
    const settings = [
      `HostKey ${dir}/host_key`,
      `AuthorizedKeysFile ${dir}/authorized_keys`,
      'StrictModes no',
      'UsePAM no',
      'AllowTcpForwarding local',
      'AllowStreamLocalForwarding local',
      'MaxSessions 100',
    ];
    await writeFile(join(dir, 'sshd_config'), `${settings.join('\n')}\n`);
    const child = spawn(
      'unshare',
      ['--mount', '--pid', '--fork', '--kill-child', 'sh', '-euc', START, 'sh', join(dir, 'sshd_config')],
      {
        stdio: ['pipe', 'pipe', 'ignore'],
      },
    );
    sshd = child;
    stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
    stream.on('error', () => undefined);
  });
  afterEach(async () => {
    sshd.kill('SIGKILL');
    await rm(dir, { recursive: true, force: true });
  });

  const connect = async (options: { hostKey?: string; clock?: Clock } = {}): Promise<SshChannel> =>
    await SshChannel.connect({
      stream,
      hostKey: host.publicKey,
      clientKey: client.privateKey,
      signal: AbortSignal.timeout(30_000),
      ...options,
    });

  test('runs a command with its very words and its input, and tells how it ended', async () => {
    const channel = await connect();
    const words = ['a b', "it's", '$HOME', '*', '', 'é\n'];
    const { exitCode, stdout, stderr } = await channel.exec(
      ['sh', '-c', 'printf "[%s]" "$@"; cat; echo oops >&2; exit 3', 'sh', ...words],
      'the input',
    );
    expect({ exitCode, stdout, stderr }).toEqual({
      exitCode: 3,
      stdout: `${words.map((word) => `[${word}]`).join('')}the input`,
      stderr: 'oops\n',
    });
    channel.destroy();
  });

  test('keeps the first MiB of what a command prints', async () => {
    const channel = await connect();
    const { stdout } = await channel.exec(['head', '-c', String(3 * MIB), '/dev/zero']);
    expect(stdout.length).toBe(MIB);
    channel.destroy();
  });

  test('a command may end without reading its input', async () => {
    const channel = await connect();
    expect(await channel.exec(['true'], 'x'.repeat(4 * MIB))).toMatchObject({ exitCode: 0 });
    channel.destroy();
  });

  test('a command that is killed', async () => {
    const channel = await connect();
    await expect(channel.exec(['sh', '-c', 'kill -9 $$'])).rejects.toMatchObject({
      code: 'GUEST_EXEC_FAILED',
      message: 'sh was killed in the guest',
    });
    channel.destroy();
  });

  test('runs a program with pipes: a stream in both directions, unchanged, and how it ended', async () => {
    const channel = await connect();
    const program = await channel.start({
      argv: ['sh', '-c', 'cat; echo bad >&2; exit 5'],
      terminal: undefined,
    });
    const bytes = randomBytes(20 * MIB);
    const found: Buffer[] = [];
    let sent = 0;
    let taken = 0;
    const feed = (): void => {
      for (; sent < bytes.length && sent - taken < MAX_INPUT_BYTES; sent += 32_768)
        program.send({ kind: 'input', bytes: bytes.subarray(sent, sent + 32_768) });
      if (taken >= bytes.length) program.send({ kind: 'end' });
    };
    feed();
    let last: FromProgram | undefined;
    let complaint = '';
    for await (const message of program.messages) {
      if (message.kind === 'stdout') found.push(message.bytes);
      if (message.kind === 'stderr') complaint += String(message.bytes);
      if (message.kind === 'taken') taken += message.count;
      if (message.kind === 'taken') feed();
      last = message;
    }
    expect({ same: Buffer.concat(found).equals(bytes), complaint, last }).toEqual({
      ...{ same: true, complaint: 'bad\n', last: { kind: 'exit', code: 5 } },
    });
    channel.destroy();
  });

  test('runs a program on a terminal, which is resized, interrupted and killed', async () => {
    const channel = await connect();
    const script = 'stty size; trap "stty size; kill -9 $$" INT; echo ready; while :; do sleep 0.1; done';
    const terminal = { columns: 77, rows: 33 };
    const program = await channel.start({ argv: ['sh', '-c', script], terminal });
    let output = '';
    let last: FromProgram | undefined;
    for await (const message of program.messages) {
      last = message;
      if (message.kind !== 'stdout') continue;
      output += String(message.bytes);
      if (!output.endsWith('ready\r\n')) continue;
      program.send({ kind: 'size', columns: 50, rows: 20 });
      program.send({ kind: 'input', bytes: Buffer.from('\u0003') });
    }
    expect(output).toMatch(/^33 77\r\nready\r\n.*20 50\r\n$/s);
    expect(last).toEqual({ kind: 'killed', signal: 9 });
    channel.destroy();
  });

  test('streams to Unix sockets, many at a time', async () => {
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
    await new Promise<void>((resolve) => server.listen(join(dir, 'echo.sock'), resolve));
    const channel = await connect();
    const echoed = await Promise.all(
      Array.from({ length: 50 }, async (_, number) => {
        const socket = await channel.openSocket(join(dir, 'echo.sock'));
        socket.end(`${number}`.repeat(100_000));
        return (await buffer(socket)).toString();
      }),
    );
    expect(echoed).toEqual(Array.from({ length: 50 }, (_, number) => `${number}`.repeat(100_000)));
    channel.destroy();
    server.close();
  });

  test('a socket that is not there', async () => {
    const channel = await connect();
    await expect(channel.openSocket(join(dir, 'none.sock'))).rejects.toMatchObject({
      code: 'GUEST_EXEC_FAILED',
    });
    channel.destroy();
  });

  test('another host key than the one made for the guest is refused', async () => {
    await expect(connect({ hostKey: makeSshKeyPair().publicKey })).rejects.toMatchObject({
      code: 'GUEST_UNTRUSTED',
    });
  });

  test('the end of the guest ends what runs, and says so', async () => {
    const channel = await connect();
    const running = channel.exec(['sh', '-c', `: > ${dir}/begun; sleep 86399`]);
    running.catch(() => undefined);
    await waitUntil('the command to run', () => existsSync(join(dir, 'begun')));
    sshd.kill('SIGKILL');
    expect(await within('the end', channel.closed)).toMatch(/SSH connection/);
    await expect(running).rejects.toMatchObject({ code: 'GUEST_GONE' });
    await expect(channel.exec(['true'])).rejects.toMatchObject({ code: 'GUEST_GONE' });
    await expect(channel.openSocket('/x')).rejects.toMatchObject({ code: 'GUEST_GONE' });
  });

  test('a command that does not end is the end of the guest', async () => {
    const clock = new FakeClock();
    const channel = await connect({ clock });
    const running = channel.exec(['sleep', '86399']);
    running.catch(() => undefined);
    await waitUntil('its time limit', () => clock.pendingTimers === 2);
    for (let seconds = 0; seconds < 119; seconds += 7) {
      await clock.advance(7_000);
      expect(await channel.exec(['true'])).toMatchObject({ exitCode: 0 });
    }
    await clock.advance(1_000);
    expect(await channel.closed).toBe('sleep 86399 has not ended within 120 s in it');
    await expect(running).rejects.toMatchObject({ code: 'GUEST_GONE' });
  });

  test('a connection that is given up', async () => {
    const given = new AbortController();
    const connecting = SshChannel.connect({
      stream: new Duplex({ read: () => undefined, write: () => undefined }),
      hostKey: host.publicKey,
      clientKey: client.privateKey,
      signal: given.signal,
    });
    given.abort(new Error('too late'));
    await expect(connecting).rejects.toThrow('too late');
  });
});
