import { chmod, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

import { DroverError, errorMessage } from '../lib/errors.js';
import { run } from '../lib/process.js';
import { serveControl } from './server.js';
import type { Operator } from './operator.js';

/**
 * Serves the queries of the control socket, and none of its orders, to the members of a group. The socket is
 * outside of the state directory, which only its owner can enter.
 * @throws DroverError `DIRECTORY_UNUSABLE`, `GROUP_UNUSABLE`, `ADDRESS_IN_USE`
 */
export async function openGroupSocket(
  path: string,
  group: string,
  operator: Operator,
): Promise<{ close(): Promise<void> }> {
  await makeDir(dirname(path));
  const server = await serveControl(path, operator, { group });
  try {
    await giveToGroup(path, group);
    await chmod(path, 0o660);
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

/** A directory that others can enter, and in which none but this user can put a socket of his own. */
async function makeDir(path: string): Promise<void> {
  const hint = 'Choose another control.path in the configuration, or set control.group to null.';
  try {
    await mkdir(path, { recursive: true, mode: 0o755 });
  } catch (cause) {
    const message = `The directory ${path} of control.path cannot be made: ${errorMessage(cause)}`;
    throw new DroverError('DIRECTORY_UNUSABLE', message, { cause, hint });
  }
  const { mode, uid } = await stat(path);
  if ((mode & 0o022) === 0 && uid === process.getuid?.()) return;
  throw new DroverError(
    'DIRECTORY_NOT_PRIVATE',
    `Other users can write to the directory ${path} of control.path (mode 0${(mode & 0o7777).toString(8)}, owner ${uid})`,
    { hint },
  );
}

/** chgrp knows every source of groups that the system has. */
async function giveToGroup(path: string, group: string): Promise<void> {
  const { exitCode, stderr } = await run('chgrp', ['--', group, path]);
  if (exitCode === 0) return;
  throw new DroverError(
    'GROUP_UNUSABLE',
    `control.group: the socket cannot be given to the group ${group}: ${stderr.trim()}`,
    { hint: 'Name a group that exists on this host, or set control.group to null.' },
  );
}
