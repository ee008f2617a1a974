import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { runInGuest } from '../../src/drivers/namespace/agent-client.js';
import { REPOSITORY, startDrover, type Drover } from '../support/drover.js';
import { guestInit, guestProcesses } from '../support/guests.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

describeE2e('root in a namespace guest', [], () => {
  let dir: string;
  let drover: Drover;
  let host: NixHost;
  let guest: string;

  /** As the supervisor runs its own commands there: as root, outside of Nix's sandbox. */
  const inGuest = async (script: string, stdin = ''): Promise<string> => {
    const socket = join(drover.stateDir, 'guests', guest, 'run');
    const { stdout, stderr } = await runInGuest(
      socket,
      ['sh', '-c', script],
      stdin,
      AbortSignal.timeout(60_000),
    );
    return (stdout + stderr).trim();
  };

  beforeAll(async () => {
    dir = await mkdtemp('/tmp/esc-');
    drover = await startDrover({ config: { pool: { maxGuests: 1 }, guest: { userNamespace: 'required' } } });
    host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('boots-a-guest', 'echo > $out')));
    guest = await drover.onlyGuest();
  });

  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  test('cannot reach the host by any system call', async () => {
    const program = join(dir, 'escape');
    await execa('cc', ['-static', '-o', program, join(REPOSITORY, 'test/fixtures/guest-escape/escape.c')]);
    const said = await inGuest(
      'base64 -d > /tmp/escape; chmod 755 /tmp/escape; /tmp/escape',
      (await readFile(program)).toString('base64'),
    );
    const lines = said.trim().split('\n');
    expect(lines.length).toBeGreaterThan(30);
    expect(lines.filter((line) => line.endsWith(': allowed'))).toEqual([]);
    expect(lines).toContain('open_by_handle_at /: EPERM');
    expect(lines).toContain('vsock: EAFNOSUPPORT');
  });

  test('is a user of its own, and so are its build users', async () => {
    const init = await guestInit(drover.stateDir, guest);
    const [, first = '', count = ''] =
      /^\s*0\s+(\d+)\s+(\d+)$/.exec(await inGuest('cat /proc/self/uid_map')) ?? [];
    expect(Number(first)).toBeGreaterThanOrEqual(0x70000000);
    expect(count).toBe('65536');
    for (const { pid } of await guestProcesses(init)) {
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
      for (const [, uid] of status.matchAll(/^[UG]id:\t(\d+)/gm)) {
        expect(Number(uid) - Number(first)).toBeGreaterThanOrEqual(0);
        expect(Number(uid) - Number(first)).toBeLessThan(Number(count));
      }
    }
  });

  test("has other user ids than another supervisor's guest", async () => {
    await using other = await startDrover();
    await using there = await nixHost({ drover: other });
    succeeded(await there.build(there.derivation('other', 'echo > $out')));
    const uid = async (of: Drover): Promise<string | undefined> => {
      const init = await guestInit(of.stateDir, await of.onlyGuest());
      return /^Uid:\t(\d+)/m.exec(await readFile(`/proc/${init}/status`, 'utf8'))?.[1];
    };
    expect(await uid(other)).not.toBe(await uid(drover));
  });

  test('has no descriptor of the host but its console', async () => {
    expect(await inGuest('ls /proc/self/fd')).toBe('0\n1\n2\n3'); // ls has the directory open
  });

  test('cannot lead the supervisor to a socket of the host', async () => {
    const server = createServer();
    let connections = 0;
    server.on('connection', (socket) => {
      connections++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(join(dir, 'socket'), resolve));
    try {
      await inGuest(`rm -rf /nix/var/nix/daemon-socket; ln -s ${dir} /nix/var/nix/daemon-socket`);
      await inGuest(`rm -rf /run/drover/forget/ask; ln -s ${dir}/socket /run/drover/forget/ask`);
      succeeded(await host.build(host.derivation('after-that', 'echo > $out')));
      expect(connections).toBe(0);
    } finally {
      server.close();
    }
  });
});

describeE2e('guest.userNamespace', [], () => {
  test("off: root in a guest is the host's root", async () => {
    await using drover = await startDrover({ config: { guest: { userNamespace: 'off' } } });
    await using host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('as-root', 'echo > $out')));
    const init = await guestInit(drover.stateDir, await drover.onlyGuest());
    expect(await readFile(`/proc/${init}/status`, 'utf8')).toMatch(/^Uid:\t0\t/m);
  });
});
