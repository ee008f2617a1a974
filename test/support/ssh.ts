import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { execa } from 'execa';

import { parseConfig } from '../../src/config/load.js';
import type { SshClientConfig } from '../../src/config/ssh-clients.js';
import { loadHostKey } from '../../src/doors/host-key.js';
import { SshDoor, type SshDoorOptions } from '../../src/doors/ssh/door.js';
import { makeKey, REPOSITORY } from './drover.js';
import { FrontBench, SILENT } from './front-bench.js';

const HOST = { env: {}, uid: 0, home: '/root' };

/** An untrusted client with this key, as the configuration has it for a line of `authorizedKeys`. */
export function sshClientOf(line: string, more: Partial<SshClientConfig> = {}): SshClientConfig {
  const config = parseConfig(JSON.stringify({ doors: { ssh: { authorizedKeys: [line] } } }), 'test', HOST);
  const [client] = config.doors.ssh.clients;
  if (client === undefined) throw new Error(`not a usable key: ${line}`);
  return { ...client, ...more };
}

/** An ssh door with a front behind it that has nothing real, and OpenSSH's client before it. */
export class SshBench implements AsyncDisposable {
  readonly bench = new FrontBench();
  readonly dir: string;
  readonly door: SshDoor;

  private constructor(dir: string, door: SshDoor, bench: FrontBench) {
    this.dir = dir;
    this.door = door;
    this.bench = bench;
  }

  static async start(options: Partial<SshDoorOptions> = {}): Promise<SshBench> {
    const dir = await mkdtemp('/tmp/ssh-bench-');
    const { publicKey } = await makeKey(join(dir, 'listed'));
    await makeKey(join(dir, 'unlisted'));
    const bench = new FrontBench();
    const door = await SshDoor.open(bench.front, {
      host: '127.0.0.1',
      port: 0,
      hostKey: await loadHostKey(join(dir, 'host/key')),
      clients: [sshClientOf(publicKey)],
      maxSessions: 100,
      dir: join(dir, 'door'),
      program: join(REPOSITORY, 'dist/doors/ssh/server-main.js'),
      log: SILENT,
      ...options,
    });
    return new SshBench(dir, door, bench);
  }

  /** Arguments of `ssh`, the host among them. */
  args(key: 'listed' | 'unlisted' = 'listed', more: readonly string[] = []): string[] {
    const options = [
      'BatchMode=yes',
      'StrictHostKeyChecking=no',
      `UserKnownHostsFile=${join(this.dir, 'known_hosts')}`,
      'IdentitiesOnly=yes',
      'LogLevel=ERROR',
    ];
    return [
      ...['-F', '/dev/null', '-i', join(this.dir, key), '-p', String(this.door.port)],
      ...options.flatMap((option) => ['-o', option]),
      ...more,
      '127.0.0.1',
    ];
  }

  async ssh(
    args: readonly string[],
  ): Promise<{ exitCode?: number | undefined; stdout: string; stderr: string }> {
    return await execa('ssh', args, { reject: false, input: '' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.bench.front.closeAll();
    await this.door.close();
    await rm(this.dir, { recursive: true, force: true });
  }
}
