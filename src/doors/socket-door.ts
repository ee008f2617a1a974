import { chmod, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
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

export interface SocketDoor extends Door {
  /** Accepts no more connections, and keeps the open ones: clients wait for the next supervisor. */
  readonly suspend: () => Promise<void>;
}

/** While a suspended door's sessions end, clients are told this often that they may wait, in milliseconds. */
const STILL_ENDING_MS = 500;

/** The program that Nix runs, beside the socket: short, since its path becomes part of a lock file's name. */
export function connectProgram(socketPath: string): string {
  return join(dirname(socketPath), 'connect');
}

/**
 * Opens the local door: a Unix socket that only this user can reach, and beside it the program that connects to it. The
 * program stays when the door closes: it waits for the next supervisor, or says that there is none.
 * @param drover.connect the compiled drover-connect
 * @param drover.restartGraceMs time for which it waits
 * @throws DroverError `DIRECTORY_NOT_PRIVATE`, `ADDRESS_IN_USE`
 */
export async function openSocketDoor(
  front: Pick<Front, 'serve'>,
  path: string,
  drover: { readonly connect: string; readonly restartGraceMs: number },
): Promise<SocketDoor> {
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
  const program = connectProgram(path);
  const down = `${program}.down`;
  await listen(server, path);
  await chmod(path, 0o600);
  await link(drover.connect, program);
  if (path !== `${program}.sock`) await link(basename(path), `${program}.sock`);
  await writeFile(`${program}.grace`, `${drover.restartGraceMs}\n`, { mode: 0o600 });
  await rm(down, { force: true });
  let closed: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  const touchDown = async (): Promise<void> => {
    await writeFile(down, '', { mode: 0o600 }).catch(() => undefined);
    const now = new Date();
    await utimes(down, now, now).catch(() => undefined);
  };
  const suspend = async (): Promise<void> => {
    if (closed !== undefined) return;
    // First, so that no client finds the socket gone and no word about it.
    await touchDown();
    closed = closeServer(server);
    timer = setInterval(() => void touchDown(), STILL_ENDING_MS).unref();
  };
  return {
    suspend,
    close: async () => {
      await suspend();
      for (const socket of sockets) socket.destroy();
      await closed;
      clearInterval(timer);
      await touchDown();
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
