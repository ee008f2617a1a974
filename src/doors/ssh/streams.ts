import { chmod, chown } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';

import type { Clock } from '../../lib/clock.js';
import { clearStaleSocket, closeServer, listen } from '../../lib/listen.js';
import { peerUid, type UserIds } from '../../lib/native.js';
import { STREAM_SOCKET, TOKEN_BYTES } from './messages.js';

/** Bytes of a large output that may be on their way to a client. */
const WRITE_AHEAD_BYTES = 1024 * 1024;
/** Time for the token to arrive, in milliseconds. */
const TOKEN_TIMEOUT_MS = 10_000;
/** Streams whose token has not arrived yet. */
const MAX_UNIDENTIFIED = 512;

/**
 * Listens in `dir` for the sessions that the ssh door's process passes on: a token, and then what the client sends.
 * @param user the only user who may connect
 * @returns closes the socket and all its streams
 */
export async function listenForStreams(
  dir: string,
  user: UserIds,
  clock: Clock,
  onStream: (token: string, stream: Socket) => void,
): Promise<() => Promise<void>> {
  const path = join(dir, STREAM_SOCKET);
  await clearStaleSocket(path);
  const sockets = new Set<Socket>();
  let unidentified = 0;
  const server = createServer({ highWaterMark: WRITE_AHEAD_BYTES }, (stream) => {
    stream.on('error', () => undefined);
    if (unidentified >= MAX_UNIDENTIFIED || uidOf(stream) !== user.uid) {
      stream.destroy();
      return;
    }
    sockets.add(stream);
    unidentified += 1;
    let isIdentified = false;
    const identified = (): void => {
      if (isIdentified) return;
      isIdentified = true;
      unidentified -= 1;
      cancel();
      stream.off('readable', readToken);
    };
    const cancel = clock.after(TOKEN_TIMEOUT_MS, () => stream.destroy());
    const readToken = (): void => {
      const token = stream.read(TOKEN_BYTES) as Buffer | null;
      if (token === null) return;
      identified();
      // At the stream's end, `read` returns what there is.
      if (token.length === TOKEN_BYTES) onStream(token.toString('hex'), stream);
      else stream.destroy();
    };
    stream.on('readable', readToken);
    stream.once('close', () => {
      identified();
      sockets.delete(stream);
    });
  });
  await listen(server, path);
  await chmod(path, 0o600);
  if (process.getuid?.() === 0) await chown(path, user.uid, user.gid);
  return async () => {
    const closed = closeServer(server);
    for (const stream of sockets) stream.destroy();
    await closed;
  };
}

/** Undefined if the connection has ended already. */
function uidOf(stream: Socket): number | undefined {
  try {
    return peerUid(stream);
  } catch {
    return undefined;
  }
}
