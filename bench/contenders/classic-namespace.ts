import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Host } from '../host.js';
import { freePort, runProgram, Service } from '../process.js';
import { answers, sshClient, type ClassicBuilder } from './classic.js';
import { JOBS } from './contender.js';

/**
 * In a mount namespace, with a trusted user `builder`. Its store is in memory, as a guest's is; its shell
 * reads no profile.
 */
export async function startClassicNamespace(host: Host): Promise<ClassicBuilder> {
  const dir = join(host.dir, 'classic');
  await mkdir(dir, { recursive: true });
  const [hostKey, identity] = [join(dir, 'host_key'), join(dir, 'identity')];
  for (const key of [hostKey, identity]) {
    await runProgram('rm', ['-f', key, `${key}.pub`], host.env);
    await runProgram('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key], host.env);
  }
  const port = await freePort();
  const conf = await host.writeNixConf('classic', [`max-jobs = ${JOBS}`, 'trusted-users = root builder']);
  await writeFile(join(dir, 'sshd_config'), serverConfig(host, dir, port));
  const service = new Service(
    ['unshare'],
    [
      ...['--mount', '--propagation', 'private', 'sh', '-euc', OWN_STORE, 'sh'],
      ...[join(dir, 'sshd_config'), `${identity}.pub`, conf],
    ],
    { env: { PATH: host.env['PATH'] }, cwd: dir },
  );
  await service.ready(() => answers(port));
  const [type, key] = (await readFile(`${hostKey}.pub`, 'utf8')).split(' ');
  const server = { dir, port, user: 'builder', hostKey: `${type ?? ''} ${key ?? ''}`, identity };
  return {
    contender: await sshClient(host, server),
    bootMs: undefined,
    stop: async () => {
      await service.stop();
    },
  };
}

/** In a mount namespace: another /nix and a separate user, which disappear with the last process. */
const OWN_STORE = `
  mount -t tmpfs -o size=80% classic /run
  mkdir -p /run/sshd /run/nix /run/conf
  cp "$2" /run/authorized_keys
  cp "$3/nix.conf" /run/conf
  chmod 644 /run/authorized_keys
  mount --bind /run/nix /nix
  { cat /etc/passwd; echo 'builder:*:1900000:65534:::/bin/sh'; } > /run/passwd
  mount --bind /run/passwd /etc/passwd
  NIX_CONF_DIR=/run/conf setpriv --pdeathsig KILL nix-daemon &
  until [ -S /nix/var/nix/daemon-socket/socket ]; do sleep 0.05; done
  exec /usr/sbin/sshd -D -e -f "$1"
`;

function serverConfig(host: Host, dir: string, port: number): string {
  return [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${join(dir, 'host_key')}`,
    'AuthorizedKeysFile /run/authorized_keys',
    'AllowUsers builder',
    'StrictModes no',
    'UsePAM no',
    'PidFile none',
    'MaxStartups 100',
    `SetEnv PATH=${host.env['PATH'] ?? ''} NIX_CONF_DIR=/run/conf`,
    '',
  ].join('\n');
}
