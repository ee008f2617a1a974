import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { loadHostKey } from '../../src/doors/host-key.js';
import { WorkerClient } from '../../src/daemon/worker-client.js';
import { describeWith } from '../support/requirements.js';
import { pathInfo, storePath, VERSION } from '../support/scripted-daemon.js';
import { SshBench, sshClientOf } from '../support/ssh.js';
import { waitUntil, within } from '../support/wait.js';

/** A worker-protocol client over a real ssh. */
async function nixOver(
  bench: SshBench,
  args = bench.args(),
): Promise<{ client: WorkerClient; ended: Promise<unknown[]> }> {
  const child = spawn('ssh', [...args, 'nix-daemon', '--stdio'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
  return { client: await WorkerClient.connect(stream, VERSION, 'Drover'), ended };
}

describeWith('the ssh door', ['ssh', 'dist'], () => {
  test('lets a listed key in, and no other', async () => {
    await using bench = await SshBench.start();
    const refused = await bench.ssh([...bench.args('unlisted'), 'nix-daemon', '--stdio']);
    expect(refused.exitCode).toBe(255);
    expect(refused.stderr).toContain('Permission denied (publickey)');
    const path = storePath('p');
    bench.bench.hostDaemon.paths.set(path, { info: pathInfo(path), nar: Buffer.alloc(0) });
    const { client, ended } = await nixOver(bench);
    expect(await client.queryValidPaths([path])).toEqual([path]);
    client.channel.end();
    expect(await within('the end of ssh', ended)).toEqual([0, null]);
  });

  test.each([
    [['echo', 'hello'], '`nix-daemon --stdio`'],
    [['nix-store', '--serve', '--write'], 'use ssh-ng:// instead of ssh://'],
    [['nix-daemon', '--stdio;', 'id'], '`nix-daemon --stdio`'],
    [['nix-daemon'], '`nix-daemon --stdio`'],
    [[], 'there is no shell here'],
  ])('refuses %j in words, with status 127', async (command, message) => {
    await using bench = await SshBench.start();
    const { exitCode, stderr, stdout } = await bench.ssh([...bench.args(), ...command]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 127, stdout: '' });
    expect(stderr).toContain(`drover: `);
    expect(stderr).toContain(message);
  });

  test('offers only strong algorithms', async () => {
    await using bench = await SshBench.start();
    const { stderr } = await bench.ssh([...bench.args('listed', ['-vvv', '-o', 'LogLevel=DEBUG3']), 'true']);
    expect(stderr).toMatch(/kex: algorithm: curve25519-sha256(@libssh\.org)?\s/);
    expect(stderr).toMatch(/kex: host key algorithm: ssh-ed25519\s/);
    expect(/server-sig-algs=<([^>]*)>/.exec(stderr)?.[1]?.split(',')).toEqual([
      'ssh-ed25519',
      ...['ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521'],
      ...['rsa-sha2-512', 'rsa-sha2-256'],
    ]);
    const weak = await bench.ssh(bench.args('listed', ['-o', 'KexAlgorithms=ecdh-sha2-nistp256']));
    expect(weak.exitCode).toBe(255);
  });

  test.each([
    ['rsa', '3072', 'rsa-sha2-512'],
    ['rsa', '3072', 'rsa-sha2-256'],
    ['ecdsa', '521', 'ecdsa-sha2-nistp521'],
  ])('lets a key in: %s %s with %s', async (type, bits, algorithm) => {
    await using bench = await SshBench.start();
    const file = join(bench.dir, 'other');
    await execa('ssh-keygen', ['-q', '-t', type, '-b', bits, '-N', '', '-f', file]);
    bench.door.configure([sshClientOf((await readFile(`${file}.pub`, 'utf8')).trim())], 100);
    const options = ['-i', file, '-o', `PubkeyAcceptedAlgorithms=${algorithm}`];
    expect((await bench.ssh([...options, ...bench.args('unlisted'), 'true'])).exitCode).toBe(127);
  });

  test('has no subsystems, tunnels or agents', async () => {
    await using bench = await SshBench.start();
    const sftp = await bench.ssh([...bench.args('listed', ['-s']), 'sftp']);
    expect(sftp.exitCode).not.toBe(0);
    expect(sftp.stderr).toContain('subsystems');
    const local = await bench.ssh(bench.args('listed', ['-W', `127.0.0.1:${bench.door.port}`]));
    expect(local.exitCode).not.toBe(0);
    expect(local.stderr).toContain('forwarding failed');
    const remote = await bench.ssh(
      bench.args('listed', ['-N', '-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:1']),
    );
    expect(remote.exitCode).toBe(255);
    expect(remote.stderr).toContain('remote port forwarding failed');
    const agent = await bench.ssh([...bench.args('listed', ['-A']), 'echo']);
    expect(agent.exitCode).toBe(127);
  });

  test('serves many clients at once, and many sessions over one connection', async () => {
    await using bench = await SshBench.start();
    const path = storePath('p');
    bench.bench.hostDaemon.paths.set(path, { info: pathInfo(path), nar: Buffer.alloc(0) });
    const control = join(bench.dir, 'control');
    const master = spawn('ssh', bench.args('listed', ['-N', '-M', '-S', control]), { stdio: 'ignore' });
    const masterEnded = once(master, 'close');
    await waitUntil('the control socket', async () => await stat(control).catch(() => undefined));
    const all = await Promise.all([
      ...Array.from({ length: 4 }, () => nixOver(bench)),
      ...Array.from({ length: 6 }, () => nixOver(bench, bench.args('listed', ['-S', control]))),
    ]);
    expect(bench.bench.front.sessions).toBe(10);
    const answers = await Promise.all(all.map(({ client }) => client.queryValidPaths([path])));
    expect(answers.flat()).toHaveLength(10);
    for (const { client } of all) client.channel.end();
    await Promise.all(all.map(({ ended }) => ended));
    await waitUntil('the end of all sessions', () => bench.bench.front.sessions === 0);
    // The master is idle, and still there: closing the door must not wait for it.
    await within('the door to close', bench.door.close());
    expect(await within('the end of the master', masterEnded)).toEqual([255, null]);
  });

  test('cuts a client that says nothing, and notices one that is dead', async () => {
    await using bench = await SshBench.start({ limits: { authenticationTimeoutMs: 50 } });
    const socket = connect(bench.door.port, '127.0.0.1').resume();
    await within('the silent client to be cut', once(socket, 'close'));

    await using alive = await SshBench.start({ limits: { keepaliveIntervalMs: 250 } });
    const child = spawn('ssh', [...alive.args(), 'nix-daemon', '--stdio'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    await waitUntil('the session', () => alive.bench.front.sessions === 1);
    child.kill('SIGSTOP');
    await waitUntil('the dead session to be noticed', () => alive.bench.front.sessions === 0);
    child.kill('SIGKILL');
  });

  test.each([
    ['has no session', ['-N']],
    ['says nothing in its session', ['nix-daemon', '--stdio']],
  ])('cuts a client that logs in and %s, but none that has spoken', async (_, command) => {
    await using bench = await SshBench.start({ limits: { speechlessTimeoutMs: 5_000 } });
    const { client, ended } = await nixOver(bench);
    const silent = spawn('ssh', [...bench.args(), ...command], { stdio: ['pipe', 'ignore', 'ignore'] });
    expect(await within('the silent client to be cut', once(silent, 'close'))).toEqual([255, null]);
    expect(await client.queryValidPaths([])).toEqual([]);
    client.channel.end();
    await within('the end of ssh', ended);
  });

  test.each([
    ['a client', []],
    ['a client that asks for compression', ['-C']],
  ])('returns everything when %s is killed', async (_, options) => {
    await using bench = await SshBench.start();
    const child = spawn('ssh', [...bench.args('listed', options), 'nix-daemon', '--stdio'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    await waitUntil('the session', () => bench.bench.front.sessions === 1);
    child.kill('SIGKILL');
    await waitUntil('the end of the session', () => bench.bench.front.sessions === 0);
  });
});

describeWith("the ssh door's host key", ['ssh', 'dist'], () => {
  test('is made once, readable by its owner only, and never overwritten', async () => {
    await using bench = await SshBench.start();
    const file = join(bench.dir, 'keys/host');
    const made = await loadHostKey(file);
    expect(made.publicKey).toMatch(/^ssh-ed25519 /);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(join(bench.dir, 'keys'))).mode & 0o777).toBe(0o700);
    expect(await loadHostKey(file)).toEqual(made);
    const known = await bench.ssh([...bench.args(), 'true']);
    expect(known.exitCode).toBe(127);
    expect(await readFile(join(bench.dir, 'known_hosts'), 'utf8')).toContain(
      (await loadHostKey(join(bench.dir, 'host/key'))).publicKey,
    );

    for (const content of ['', 'garbage\n', made.publicKey]) {
      await writeFile(file, content);
      await expect(loadHostKey(file)).rejects.toMatchObject({
        code: 'HOST_KEY_UNUSABLE',
        message: `${file} is not a private key`,
      });
      expect(await readFile(file, 'utf8')).toBe(content);
    }
  });
});
