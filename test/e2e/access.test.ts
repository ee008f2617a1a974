import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { makeKey, startDrover, type Drover } from '../support/drover.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const NOBODY = { uid: 65_534, gid: 65_534 };

/** Connects to a Unix socket as the user `nobody`. @returns `connected`, or the error's code */
async function connectAsNobody(path: string): Promise<string> {
  const script = `const s = require('net').connect(${JSON.stringify(path)});
    s.on('connect', () => { console.log('connected'); s.destroy(); });
    s.on('error', (e) => console.log(e.code));`;
  return (await execa(process.execPath, ['-e', script], { ...NOBODY, cwd: '/' })).stdout;
}

async function modeOf(path: string): Promise<string> {
  return ((await stat(path)).mode & 0o777).toString(8);
}

describeE2e('another user of the host', [], () => {
  let drover: Drover;
  let host: NixHost;
  let guest: string;

  beforeAll(async () => {
    drover = await startDrover();
    host = await nixHost({ drover });
    succeeded(await host.build(host.derivation('boots-a-guest', 'echo > $out')));
    guest = await drover.onlyGuest();
  });

  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
  });

  test('can connect to what is open to all, or the following tests would prove nothing', async () => {
    const dir = await mkdtemp('/tmp/open-');
    const server = createServer().listen({ path: join(dir, 's'), readableAll: true, writableAll: true });
    try {
      await once(server, 'listening');
      await execa('chmod', ['755', dir]);
      expect(await connectAsNobody(join(dir, 's'))).toBe('connected');
    } finally {
      server.close();
      await rm(dir, { recursive: true });
    }
  });

  test.each(['doors/nix.sock', 'control.sock'])('cannot connect to %s', async (socket) => {
    expect(await connectAsNobody(join(drover.stateDir, socket))).toBe('EACCES');
  });

  test("cannot connect to a guest's nix-daemon, or to its agent", async () => {
    for (const name of ['nix', 'run']) {
      const socket = join(drover.stateDir, 'guests', guest, name);
      expect(await connectAsNobody(socket)).toBe('EACCES');
      expect((await stat(socket)).isSocket()).toBe(true);
      expect(await modeOf(socket)).toBe('600');
    }
  });

  test('cannot run the program that connects to the socket door', async () => {
    const result = await execa(join(drover.stateDir, 'doors/connect'), {
      ...NOBODY,
      cwd: '/',
      reject: false,
    });
    expect(result.code).toBe('EACCES');
  });

  test('cannot use the ssh door with a key that is not listed, nor with none', async () => {
    const dir = await mkdtemp('/tmp/key-');
    try {
      const config = join(dir, 'config');
      await makeKey(join(dir, 'other'));
      const text = (await drover.sshConfig()).replace(drover.identity, join(dir, 'other'));
      await execa('tee', [config], { input: text });
      const ssh = await execa('ssh', ['-F', config, 'drover', 'nix-daemon --stdio'], {
        reject: false,
        input: '',
      });
      expect(ssh.stderr).toContain('Permission denied (publickey)');
      expect(ssh.exitCode).toBe(255);
      const none = await execa('ssh', ['-F', config, '-o', 'PubkeyAuthentication=no', 'drover', 'id'], {
        reject: false,
        input: '',
      });
      expect(none.stderr).toContain('Permission denied (publickey)');
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  test('finds every directory closed, and every socket and key', async () => {
    for (const directory of ['', 'doors', 'guests', `guests/${guest}`, 'logs', 'images', 'ssh']) {
      expect([directory, await modeOf(join(drover.stateDir, directory))]).toEqual([directory, '700']);
    }
    for (const file of ['control.sock', 'doors/nix.sock', 'ssh/host_ed25519_key']) {
      expect([file, await modeOf(join(drover.stateDir, file))]).toEqual([file, '600']);
    }
  });
});
