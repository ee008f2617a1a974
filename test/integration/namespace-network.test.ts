import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';
import { execa } from 'execa';

import { REPOSITORY } from '../support/drover.js';
import { processes } from '../support/guests.js';
import { describeWith } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

const HELPER = join(REPOSITORY, 'dist/drover-namespace');
/** Prints a line for each of its arguments: what a connection to that address leads to. */
const CONNECT = `
  const [port, ...hosts] = process.argv.slice(1);
  for (const host of hosts) {
    const socket = require('node:net').connect({ host, port, timeout: 3000 });
    const say = (what) => { console.log(host, what); socket.destroy(); };
    socket.once('connect', () => say('reached')).once('error', (error) => say(error.code)).once('timeout', () => say('nothing'));
  }`;

describeWith('a program in a network of its own', ['root', 'dist', 'slirp4netns'], () => {
  async function outbound(...words: string[]): Promise<string[]> {
    const { stdout: slirp } = await execa('sh', ['-c', 'command -v slirp4netns']);
    return ['outbound', slirp, '-', ...words];
  }

  test("reaches neither the host's loopback nor link-local addresses, by any name", async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, '::');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const mapped = ['::ffff:127.0.0.1', '::ffff:169.254.169.254', '::ffff:10.0.2.2'];
    const hosts = [
      '127.0.0.1',
      '10.0.2.2',
      '0.0.0.0',
      '::1',
      '169.254.169.254',
      '100.100.100.200',
      ...mapped,
    ];
    const command = await outbound(process.execPath, '-e', CONNECT, String(port), ...hosts);
    const { stdout } = await execa(HELPER, command);
    server.close();
    expect(stdout.split('\n')).toHaveLength(hosts.length);
    expect(stdout).not.toContain('reached');
  });

  test('ends with its slirp4netns, which ends with it', async () => {
    const slirpOf = async (pid: number) =>
      (await processes()).find(
        ({ command }) => command.includes(`slirp4netns --configure`) && command.includes(`/proc/${pid}/ns`),
      )?.pid;
    for (const first of ['program', 'slirp4netns']) {
      const child = spawn(HELPER, await outbound(process.execPath, '-e', 'setInterval(() => 0, 1e6)'), {
        stdio: 'ignore',
      });
      const pid = child.pid ?? 0;
      const slirp = await waitUntil('slirp4netns', () => slirpOf(pid));
      process.kill(first === 'program' ? pid : slirp, 'SIGKILL');
      await once(child, 'exit');
      await waitUntil('the end of slirp4netns', async () =>
        (await slirpOf(pid)) === undefined ? true : undefined,
      );
    }
  });
});
