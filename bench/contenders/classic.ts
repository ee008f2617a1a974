import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';

import type { Host } from '../host.js';
import { client, JOBS, remoteOnly, type Contender } from './contender.js';

/**
 * The setup of every other tool: OpenSSH's server and a nix-daemon with its own store. It gets the benefit of
 * the doubt: it runs all the time.
 */
export interface ClassicBuilder {
  readonly contender: Contender;
  /** Time from start until ssh answers, in milliseconds; undefined if it does not boot. */
  readonly bootMs: number | undefined;
  stop(): Promise<void>;
}

export interface SshServer {
  /** Directory for files of the client. */
  readonly dir: string;
  readonly port: number;
  readonly user: string;
  /** `<type> <base64>` */
  readonly hostKey: string;
  /** File with the client's private key. */
  readonly identity: string;
  /** Nix system of its builds; undefined: the host's. */
  readonly system?: string;
}

/** A client whose only builder is behind this sshd. */
export async function sshClient(
  host: Host,
  { dir, port, user, hostKey, identity, system }: SshServer,
): Promise<Contender> {
  const [known, config] = [join(dir, 'known_hosts'), join(dir, 'ssh_config')];
  await writeFile(known, `classic ${hostKey}\n`);
  const lines = [
    'Host classic',
    '  HostName 127.0.0.1',
    `  Port ${port}`,
    `  User ${user}`,
    `  IdentityFile ${identity}`,
    '  IdentitiesOnly yes',
    '  HostKeyAlias classic',
    `  UserKnownHostsFile ${known}`,
    '  GlobalKnownHostsFile /dev/null',
    '  StrictHostKeyChecking yes',
    '',
  ];
  await writeFile(config, lines.join('\n'));
  const settings = remoteOnly(`ssh-ng://classic ${system ?? '-'} - ${JOBS} 1 - - -`);
  return await client(host, 'classic', 'client-classic', settings, { NIX_SSHOPTS: `-F ${config}` });
}

/** Whether a server listens on this port. */
export async function answers(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}
