import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

import { systemClock, type Clock } from './clock.js';
import { errorCode } from './errors.js';
import { exhaustion } from './exhaustion.js';

/**
 * Number of bytes read at a time: as many as a Unix socket holds on Linux. With a quarter of that, a large output
 * costs a third more processor time, since both ends wake up each other more often.
 */
const BUFFER_BYTES = 256 * 1024;
/** One buffer serves all sockets until they fill it: most carry short answers, and there can be thousands. */
const SHARED = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * Time between attempts to connect to a socket whose queue is full, and limit of all of them, in milliseconds. Linux
 * refuses where a blocking socket would wait, and Nix's daemon lets few clients wait.
 */
const FULL_RETRY_MS = 10;
const FULL_TIMEOUT_MS = 30_000;

const reusing = new WeakSet<Duplex>();

/**
 * True if a chunk of the stream's `data` event is valid only until the handler returns, and must be copied to be kept.
 */
export function reusesItsBuffer(stream: Duplex): boolean {
  return reusing.has(stream);
}

/** True for such a chunk if the next read of any stream may overwrite it, and not only the next one of its own. */
export function isInSharedBuffer(chunk: Uint8Array): boolean {
  return chunk.buffer === SHARED.buffer;
}

/**
 * Connects to a Unix socket and reads everything into one buffer, as `reusesItsBuffer` reports. With a buffer per
 * chunk, the sockets' default, a large output costs more time in garbage collection than in copying. The socket is
 * paused.
 * @param until time to stop waiting for a place in the queue of a socket that is full
 * @throws Node's own error, such as `ENOENT`; DroverError `HOST_EXHAUSTED`
 */
export async function connectUnixSocket(
  path: string,
  clock: Clock = systemClock,
  until = queueDeadline(clock.now()),
): Promise<Socket> {
  for (;;) {
    try {
      return await connectOnce(path);
    } catch (error) {
      if (errorCode(error) !== 'EAGAIN' || clock.now() >= until) throw error;
      await new Promise<void>((resolve) => clock.after(FULL_RETRY_MS, resolve));
    }
  }
}

/** @param since when a place in the queue was last seen to become free, or first wanted */
export function queueDeadline(since: number): number {
  return since + FULL_TIMEOUT_MS;
}

async function connectOnce(path: string): Promise<Socket> {
  let buffer = SHARED;
  const socket = connect({
    path,
    onread: {
      buffer: () => buffer,
      callback: (bytes, into) => {
        if (bytes === SHARED.length && buffer === SHARED) buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
        socket.emit('data', into.subarray(0, bytes));
        return true;
      },
    },
  });
  socket.pause();
  reusing.add(socket);
  return await new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      reject(exhaustion(error, `${path} cannot be connected to`) ?? error);
    };
    socket.once('connect', () => {
      socket.off('error', fail);
      resolve(socket);
    });
    socket.once('error', fail);
  });
}
