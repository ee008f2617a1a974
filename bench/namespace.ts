import { spawn } from 'node:child_process';
import { chmod, chown, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';

import { deleteOwnPaths } from './store.js';

const BUILD_GID = 30_000;
const BUILD_USERS = 32;

/**
 * Runs this program again in a mount namespace where Nix's build users exist and root's home is empty. Local
 * builds then work as on an installation with a daemon, without the influence of a user's ssh or shell
 * configuration. Afterwards the temporary directory and the store paths are removed, however the program
 * ended.
 * @returns its exit status
 */
export async function runInNamespace(program: string, argv: readonly string[], nix: string): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), 'drover-bench-'));
  const store = await stat('/nix/store').catch(() => undefined);
  try {
    await writeAccounts(dir);
    const child = spawn(
      'unshare',
      [
        ...['--mount', '--propagation', 'private', 'sh', '-euc', BIND_ACCOUNTS, 'sh', dir],
        ...[process.execPath, program, ...argv],
      ],
      { stdio: 'inherit', env: { ...process.env, DROVER_BENCH_DIR: dir } },
    );
    // A terminal signals the child as well; any other sender signals only this process but means both.
    const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, pass);
    return await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => {
        resolve(signal === null ? (code ?? 1) : 128 + constants.signals[signal]);
      });
    });
  } finally {
    await deleteOwnPaths(dir, nix).catch((error: unknown) => {
      process.stderr.write(`bench: store paths were left behind: ${String(error)}\n`);
    });
    // Nix gives the store to the group of the build users.
    if (store !== undefined) {
      await chown('/nix/store', store.uid, store.gid);
      await chmod('/nix/store', store.mode & 0o7777);
    }
    await rm(dir, { recursive: true, force: true });
  }
}

const BIND_ACCOUNTS = `
  dir=$1
  shift
  for name in passwd group shadow; do mount --bind "$dir/$name" "/etc/$name"; done
  exec "$@"
`;

async function writeAccounts(dir: string): Promise<void> {
  const passwd = (await readFile('/etc/passwd', 'utf8')).split('\n').filter((line) => line !== '');
  const group = (await readFile('/etc/group', 'utf8')).split('\n').filter((line) => line !== '');
  const others = passwd.filter((line) => !line.startsWith('root:'));
  const users = Array.from({ length: BUILD_USERS }, (_, index) => `nixbld${index + 1}`);
  if (!group.some((line) => line.startsWith('nixbld:'))) {
    others.push(
      ...users.map((name, index) => `${name}:x:${BUILD_GID + index + 1}:${BUILD_GID}::/var/empty:/bin/false`),
    );
    group.push(`nixbld:x:${BUILD_GID}:${users.join(',')}`);
  }
  const root = `root:x:0:0:root:${join(dir, 'home')}:/bin/sh`;
  await writeFile(join(dir, 'passwd'), [root, ...others, ''].join('\n'));
  await writeFile(join(dir, 'group'), [...group, ''].join('\n'));
  await writeFile(join(dir, 'shadow'), 'root:*:19000::::::\n', { mode: 0o600 });
}
