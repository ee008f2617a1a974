import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

import { DroverError, errorMessage } from '../../lib/errors.js';

/** To one guest at the same time: the helper answers no more. */
export const MAX_VSOCK_CONNECTIONS = 512;
/** The helper's own limits are shorter. */
const MAX_ANSWER_BYTES = 4096;

/**
 * A connection to a port of the guest's vsock, through vz-helper's socket at `path` (see "The guest's vsock" in
 * `vz-helper/PROTOCOL.md`). It can half-close; errors that come later are the caller's to listen for.
 * @param port 1 … 4294967294
 * @throws DroverError `VSOCK_REFUSED` when the guest or the helper does not accept, or not before the signal's timeout;
 *   otherwise the signal's reason
 */
export async function connectVsock(path: string, port: number, signal?: AbortSignal): Promise<Socket> {
  signal?.throwIfAborted();
  const socket = connect({ path, allowHalfOpen: true });
  const abort = (): void => {
    socket.destroy(new Error('aborted'));
  };
  signal?.addEventListener('abort', abort, { once: true });
  try {
    await once(socket, 'connect');
    socket.write(`CONNECT ${port}\n`);
    const answer = await firstLine(socket);
    if (!/^OK \d+$/.test(answer)) throw new Error(answer);
    return socket;
  } catch (cause) {
    socket.destroy();
    const isLate = signal?.aborted === true && (signal.reason as Error | undefined)?.name === 'TimeoutError';
    if (!isLate) signal?.throwIfAborted();
    const why = isLate ? 'it has not answered' : errorMessage(cause);
    throw new DroverError('VSOCK_REFUSED', `The guest's vsock port ${port}: ${why}`, {
      cause,
      context: { path, port },
    });
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** Reads one line; the bytes after it stay in the socket. */
async function firstLine(socket: Socket): Promise<string> {
  let bytes = Buffer.alloc(0);
  for (;;) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      if (socket.errored !== null) throw socket.errored;
      // Both may have happened before a listener was added.
      if (socket.readableEnded || socket.destroyed) throw new Error('it was closed');
      await somethingToRead(socket);
      continue;
    }
    bytes = Buffer.concat([bytes, chunk]);
    const newline = bytes.indexOf('\n');
    if (newline >= 0) {
      const rest = bytes.subarray(newline + 1);
      if (rest.length > 0) socket.unshift(rest);
      return bytes.toString('utf8', 0, newline);
    }
    if (bytes.length > MAX_ANSWER_BYTES) throw new Error('what answers is no vz-helper');
  }
}

async function somethingToRead(socket: Socket): Promise<void> {
  const done = new AbortController();
  const { signal } = done;
  try {
    await Promise.race([
      once(socket, 'readable', { signal }),
      once(socket, 'end', { signal }).then(() => {
        throw new Error('it was closed');
      }),
    ]);
  } finally {
    done.abort();
  }
}
