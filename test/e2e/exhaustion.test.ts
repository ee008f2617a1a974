import { mkdtemp, readdir, readlink, rename, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { REPOSITORY, startDrover, type Drover } from '../support/drover.js';
import { guestInit, HELD, release } from '../support/guests.js';
import { nixHost, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { fill, mountedDirectory, unmount } from '../support/small-disk.js';
import { waitUntil } from '../support/wait.js';

const LIMIT = 128;

async function descriptors({ pid }: Drover): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length;
}

/** The number of the descriptor that is opened next. */
async function nextDescriptor({ pid }: Drover): Promise<number> {
  const open = new Set(await readdir(`/proc/${pid}/fd`));
  let number = 0;
  while (open.has(String(number))) number += 1;
  return number;
}

async function openSockets({ pid }: Drover): Promise<Set<string>> {
  const numbers = await readdir(`/proc/${pid}/fd`);
  const links = await Promise.all(numbers.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')));
  return new Set(links.filter((link) => link.startsWith('socket:')));
}

function connectTo({ stateDir }: Drover): Socket {
  return connect(join(stateDir, 'doors/nix.sock'))
    .on('error', () => undefined)
    .resume();
}

/** Opens connections to the socket door, which say nothing, until the supervisor has so many descriptors. */
async function occupy(drover: Drover, upTo: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while ((await descriptors(drover)) < upTo) {
    // Their number alone would not do: another one may be closed meanwhile.
    const before = await openSockets(drover);
    const socket = connectTo(drover);
    sockets.push(socket);
    const accepted = async (): Promise<boolean> =>
      [...(await openSockets(drover))].some((link) => !before.has(link));
    await waitUntil('the connection to be accepted', async () => socket.readableEnded || (await accepted()));
    // Too few are free already.
    if (socket.readableEnded) break;
  }
  return sockets;
}

describeE2e('where the host runs out', [], () => {
  test('of descriptors little by little, sessions are refused, builds go on, and it recovers', async () => {
    await using drover = await startDrover({
      through: ['prlimit', `--nofile=${LIMIT}:${LIMIT}`],
      config: { pool: { maxGuests: 1 } },
    });
    await using host = await nixHost({ drover });
    const running = host.startBuild(host.derivation('running', `echo "it has begun"; ${HELD}; echo > $out`));
    await running.waitForOutput('it has begun');
    const guest = await drover.onlyGuest();
    const sockets = await occupy(drover, LIMIT - LIMIT / 8);

    const { exitCode, stderr } = await host.build(host.derivation('refused', 'echo > $out'));
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(/drover: Drover cannot take another session: no file descriptor is free/);
    await release(drover.stateDir, guest);
    succeeded(await running.ended);

    for (const socket of sockets) socket.destroy();
    await waitUntil('the connections to be closed', async () => (await descriptors(drover)) < LIMIT / 2);
    succeeded(await host.build(host.derivation('after', 'echo > $out')));
    expect(await drover.onlyGuest()).toBe(guest);
  });

  test('of descriptors all at once, nothing ends, not even when a guest is lost meanwhile', async () => {
    await using drover = await startDrover({ config: { pool: { maxGuests: 1 } } });
    await using host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('before', 'echo > $out')));
    const guest = await drover.onlyGuest();
    const client = connectTo(drover);
    const setLimit = (limit: number) => execa('prlimit', ['--pid', String(drover.pid), `--nofile=${limit}:`]);
    // Descriptors of the sessions before may be closed only now.
    let attempts = 0;
    await waitUntil('a build to be refused', async () => {
      await setLimit(await nextDescriptor(drover));
      attempts += 1;
      return (await host.build(host.derivation(`refused-${attempts}`, 'echo > $out'))).exitCode !== 0;
    });
    process.kill(await guestInit(drover.stateDir, guest), 'SIGKILL');
    await drover.waitForLog('guest lost');
    await setLimit(1024);
    client.destroy();
    succeeded(await host.build(host.derivation('after', 'echo > $out')));
  });

  test('of processes or memory for programs, builds go on or wait, and it recovers', async () => {
    const dir = await mkdtemp('/tmp/fork-');
    try {
      const [library, refusal] = [join(dir, 'refuse-fork.so'), join(dir, 'refusal')];
      const source = join(REPOSITORY, 'test/fixtures/refuse-fork/refuse-fork.c');
      await execa('cc', ['-shared', '-fPIC', '-o', library, source, '-ldl']);
      await using drover = await startDrover({
        through: ['env', `LD_PRELOAD=${library}`, `REFUSE_FORK=${refusal}`],
        config: { pool: { jobsPerGuest: 1, idleTimeout: '0s' } },
      });
      await using host = await nixHost({ drover });
      for (const [code, why] of [
        ['EAGAIN', 'no further process can be started'],
        ['ENOMEM', 'the host is out of memory'],
      ] as const) {
        const running = host.startBuild(
          host.derivation(`running-${code}`, `echo "it has begun"; ${HELD}; echo > $out`),
        );
        await running.waitForOutput('it has begun');
        const guest = await drover.guestOf(`${host.id}-running-${code}`);
        await writeFile(`${refusal}.new`, String(constants.errno[code]));
        await rename(`${refusal}.new`, refusal);
        const waiting = host.startBuild(host.derivation(`waiting-${code}`, 'echo > $out'));
        const failed = await waitUntil(
          'a boot to fail',
          async () => (await drover.status()).failedBoots ?? undefined,
        );
        expect(failed.last).toContain(`drover-namespace cannot be started: ${why}`);
        await rm(refusal);
        succeeded(await waiting.ended);
        expect((await drover.status()).failedBoots).toBeNull();
        await release(drover.stateDir, guest);
        succeeded(await running.ended);
      }
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  test('of space in the state directory, builds go on: a guest needs none there', async () => {
    const stateDir = await mountedDirectory('size=256m');
    try {
      await using drover = await startDrover({ stateDir, config: { pool: { idleTimeout: '0s' } } });
      await using host = await nixHost({ drover });
      await fill('for size in 64k 4k; do dd if=/dev/zero of=$0/logs/filler$size bs=$size; done', stateDir);
      succeeded(await host.build(host.derivation('without', 'echo > $out')));
    } finally {
      await unmount(stateDir);
    }
  });

  test('of inodes in the state directory, builds that need a boot are refused, and it recovers', async () => {
    const stateDir = await mountedDirectory('size=256m,nr_inodes=500');
    try {
      await using drover = await startDrover({ stateDir, config: { pool: { idleTimeout: '0s' } } });
      await using host = await nixHost({ drover });
      succeeded(await host.build(host.derivation('before', 'echo > $out')));
      const before = await drover.guestOf(`${host.id}-before`);
      await drover.events.waitFor('guest-state', ({ guest, to }) => guest === before && to === 'stopped');
      expect(await readdir(join(stateDir, 'guests'))).toEqual([]);
      // Not among the console logs, of which old ones are removed at each boot.
      await fill('mkdir $0/filler; for i in $(seq 600); do : > $0/filler/$i || break; done', stateDir);

      const { exitCode, stderr } = await host.build(host.derivation('refused', 'echo > $out'));
      expect(exitCode).not.toBe(0);
      expect(stderr).toMatch(/drover: The guest g\d+ did not boot: .*no (space left|free space)/);
      expect((await drover.status()).failedBoots).toMatchObject({ count: 2 });

      await rm(join(stateDir, 'filler'), { recursive: true });
      succeeded(await host.build(host.derivation('after', 'echo > $out')));
      expect((await drover.status()).failedBoots).toBeNull();
    } finally {
      await unmount(stateDir);
    }
  });
});
