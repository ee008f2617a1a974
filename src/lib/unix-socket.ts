import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Bytes that are read at a time. */
const BUFFER_BYTES = 64 * 1024;

const reusing = new WeakSet<Duplex>();

/** Whether what a stream's `data` event brings is valid only until its handler returns, and has to be copied to be kept. */
export function reusesItsBuffer(stream: Duplex): boolean {
  return reusing.has(stream);
}

/**
 * Connects to a Unix socket and reads all of it into one and the same buffer: `reusesItsBuffer` says so. With a buffer
 * for each chunk, as sockets have it, a large output costs more time in collecting them than in copying. It is paused.
 * @throws Node's own error, such as `ENOENT`
 */
export async function connectUnixSocket(path: string): Promise<Socket> {
  let buffer: Buffer | undefined;
  const socket = connect({
    path,
    onread: {
      buffer: () => (buffer ??= Buffer.allocUnsafeSlow(BUFFER_BYTES)),
      callback: (bytes, into) => {
        socket.emit('data', into.subarray(0, bytes));
        return true;
      },
    },
  });
  socket.pause();
  reusing.add(socket);
  return await new Promise((resolve, reject) => {
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}
