import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';
import { stringify } from 'yaml';

import { MAIN, startDrover } from '../support/drover.js';
import { expectNoRemains, HELD, release, remainsOfGuests } from '../support/guests.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

const SOCKETS = ['control.sock', 'doors/nix.sock'];
const ENDLESS = 'echo "it has begun"; sleep 86399';

describeE2e('the end of a supervisor', [], () => {
  test('SIGKILL in the middle of a build: its guests die with it, and the next start cleans up', async () => {
    const stateDir = await mkdtemp('/tmp/st-');
    let guest = '';
    try {
      {
        await using drover = await startDrover({ stateDir });
        await using host = await nixHost({ drover });
        const client = host.startBuild(host.derivation('endless', ENDLESS));
        await client.waitForOutput('it has begun');
        ({ guest } = await drover.events.waitFor('build-started'));
        drover.signal('SIGKILL');
        await drover.exited;
        expect((await client.ended).exitCode).not.toBe(0);
        await waitUntil('the end of everything but directories', async () =>
          (await remainsOfGuests(stateDir)).every((what) => what.startsWith('directory')),
        );
      }
      await using drover = await startDrover({ stateDir });
      expect(await drover.waitForLog('cleaned up after an earlier run')).toMatchObject({
        found: `removed the directory of guest ${guest}`,
      });
      expect(await remainsOfGuests(stateDir)).toEqual([]);
      await using host = await nixHost({ drover });
      succeeded(await host.build(host.derivation('next', 'echo next > $out')));
    } finally {
      await rm(stateDir, { recursive: true, force: true });
    }
  });

  test('SIGTERM while nothing is built: it ends at once, without a trace', async () => {
    await using drover = await startDrover({ config: { pool: { warmGuests: 1 } } });
    await waitUntil('a warm guest', async () =>
      (await drover.status()).guests.some(({ state }) => state === 'ready'),
    );
    expect(await drover.stop()).toEqual({ exitCode: 0, signal: null });
    expect(await remainsOfGuests(drover.stateDir)).toEqual([]);
    for (const socket of SOCKETS) expect(existsSync(join(drover.stateDir, socket))).toBe(false);
  });

  test('another one with the same state directory: it is refused, and the first goes on', async () => {
    // No nix-daemon listens there: Drover starts its own.
    await using drover = await startDrover({ env: { NIX_DAEMON_SOCKET_PATH: '/nonexistent' } });
    await using host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('before', 'echo > $out')));
    const { exitCode, stderr } = await drover.cli('serve');
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain('Another supervisor may be running');
    for (const name of ['after', 'again']) succeeded(await host.build(host.derivation(name, 'echo > $out')));
  });

  test('signals while it starts: it ends when it has started', async () => {
    const dir = await mkdtemp('/tmp/st-');
    const [stateDir, file, socket] = [join(dir, 's'), join(dir, 'drover.yaml'), join(dir, 'daemon')];
    await writeFile(file, stringify({ stateDir, metrics: null }));
    const daemon = createServer();
    await new Promise<void>((resolve) => daemon.listen(socket, resolve));
    const env = { NIX_DAEMON_SOCKET_PATH: socket };
    // On a busy machine its start takes longer than execa waits before it kills.
    const options = { reject: false, forceKillAfterDelay: false, env } as const;
    const drover = execa(process.execPath, [MAIN, 'serve', '--config', file], options);
    // The host's nix-daemon, which is what it waits for, twice.
    let connections = 0;
    daemon.on('connection', (connection) => {
      connections += 1;
      drover.kill('SIGHUP');
      if (connections <= 2) drover.kill('SIGTERM');
      const child = execa('nix-daemon', ['--stdio'], { buffer: false, reject: false });
      // Either end may go first.
      pipeline(connection, child.stdin, () => undefined);
      pipeline(child.stdout, connection, () => undefined);
    });
    try {
      const { exitCode, signal, stderr } = await drover;
      expect([exitCode, signal]).toEqual([0, undefined]);
      expect(connections).toBeGreaterThan(1);
      expect(stderr).toContain('drover is ready');
      expect(stderr).toContain('signalled again');
      expect(stderr).toContain('drover has ended');
      expect(await readdir(stateDir)).not.toContain('drover.pid');
      for (const name of SOCKETS) expect(existsSync(join(stateDir, name))).toBe(false);
    } finally {
      drover.kill('SIGKILL');
      await drover;
      daemon.close();
      await rm(dir, { recursive: true, force: true });
    }
  });

  test('SIGTERM in the middle of a build: it is finished, and so is one that waits; new ones wait for another supervisor', async () => {
    const doors = { socket: { restartGrace: '1h' } };
    const pool = { maxGuests: 1, jobsPerGuest: 1, drainTimeout: '1h' };
    await using drover = await startDrover({ config: { doors, pool } });
    await using host = await nixHost({ drover });
    const client = host.startBuild(
      host.derivation('finishes', `echo "it has begun"; ${HELD}; echo done > $out`),
    );
    await client.waitForOutput('it has begun');
    const { guest } = await drover.events.waitFor('build-started');
    const queued = host.startBuild(host.derivation('queued', 'echo > $out'));
    await queued.waitForOutput('waiting for room');
    drover.signal('SIGTERM');
    await waitUntil('draining', async () => (await drover.status()).state === 'draining');

    const waiting = host.startBuild(host.derivation('waits', 'echo > $out'));
    await waiting.waitForOutput('Drover is restarting; waiting for it');
    expect(client.stderr).not.toContain('error');
    await release(drover.stateDir, guest);

    const { stdout } = succeeded(await client.ended);
    expect(await readFile(stdout.trim(), 'utf8')).toBe('done\n');
    succeeded(await queued.ended);
    expect(await drover.exited).toEqual({ exitCode: 0, signal: null });
    await expectNoRemains(drover.stateDir);
    for (const socket of SOCKETS) expect(existsSync(join(drover.stateDir, socket))).toBe(false);
    // It looks again and again how long it may wait.
    await writeFile(join(drover.stateDir, 'doors/connect.grace'), '0\n');
    expect((await waiting.ended).exitCode).not.toBe(0);
    expect(waiting.stderr).toContain('Drover is not running: start its service');
  });

  test.each([
    ['a second SIGTERM', '60s', true],
    ['the deadline', '1s', false],
  ] as const)('%s cuts off a build, and the exit status says so', async (_, drainTimeout, again) => {
    await using drover = await startDrover({ config: { pool: { drainTimeout } } });
    await using host = await nixHost({ drover });
    const client = host.startBuild(host.derivation('endless', ENDLESS));
    await client.waitForOutput('it has begun');
    drover.signal('SIGTERM');
    await drover.waitForLog('draining: running builds may end; signal again to end them now');
    if (again) drover.signal('SIGTERM');

    const { exitCode, stderr } = await client.ended;
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain('error: drover: Drover is shutting down');
    expect(stderr).not.toContain('again in another guest');
    expect(await drover.exited).toEqual({ exitCode: 1, signal: null });
    await expectNoRemains(drover.stateDir);
    for (const socket of SOCKETS) expect(existsSync(join(drover.stateDir, socket))).toBe(false);
  });
});
