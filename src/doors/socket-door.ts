import { chmod, rename, rm, symlink, unlink } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';

import type { Front } from '../front/front.js';
import type { ClientIdentity } from '../front/identity.js';
import { clearStaleSocket, closeServer, listen } from '../lib/listen.js';
import { peerUid } from '../lib/native.js';
import { requirePrivateDir } from '../lib/private-dir.js';

/** Bytes of a large output that may be in flight to a client, so that neither side waits for the other. */
const WRITE_AHEAD_BYTES = 1024 * 1024;

/** A door that accepts connections. */
export interface Door {
  /** Accepts no more connections, and closes the open ones. */
  readonly close: () => Promise<void>;
}

/** The program that Nix runs, beside the socket: short, since its path becomes part of a lock file's name. */
export function connectProgram(socketPath: string): string {
  return join(dirname(socketPath), 'connect');
}

/**
 * Opens the local door: a Unix socket that only this user can reach, and beside it the program that connects to it.
 * @param drover.connect the compiled drover-connect
 * @throws DroverError `DIRECTORY_NOT_PRIVATE`, `ADDRESS_IN_USE`
 */
export async function openSocketDoor(
  front: Pick<Front, 'serve'>,
  path: string,
  drover: { readonly connect: string },
): Promise<Door> {
  await requirePrivateDir(
    dirname(path),
    'Choose a directory of its own for doors.socket.path, or close this one: chmod 700.',
  );
  await clearStaleSocket(path);
  const sockets = new Set<Socket>();
  const server = createServer({ highWaterMark: WRITE_AHEAD_BYTES }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    const identity = identify(socket);
    if (identity === undefined) socket.destroy();
    else void front.serve(socket, identity);
  });
  await listen(server, path);
  await chmod(path, 0o600);
  const program = connectProgram(path);
  await link(drover.connect, program);
  if (path !== `${program}.sock`) await link(basename(path), `${program}.sock`);
  return {
    close: async () => {
      const closed = closeServer(server);
      for (const socket of sockets) socket.destroy();
      await closed;
      for (const made of [program, `${program}.sock`]) await unlink(made).catch(() => undefined);
    },
  };
}

/** The user at the other end, or undefined if the connection has ended already. */
function identify(socket: Socket): ClientIdentity | undefined {
  let uid: number;
  try {
    uid = peerUid(socket);
  } catch {
    return undefined;
  }
  return { door: 'socket', domain: `uid:${uid}`, name: `uid ${uid}`, trusted: true };
}

/** Replaces the link atomically: a Nix process may be about to follow it. */
async function link(target: string, path: string): Promise<void> {
  await rm(`${path}.tmp`, { force: true });
  await symlink(target, `${path}.tmp`);
  await rename(`${path}.tmp`, path);
}
