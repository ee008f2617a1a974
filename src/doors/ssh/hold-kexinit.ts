import type { Socket } from 'node:net';

/** A client may be waiting for the server's part, in milliseconds. */
const HOLD_MS = 1_000;
const LINE_FEED = 0x0a;

/**
 * Holds back the server's bytes after its identification until the client has begun its own key exchange.
 *
 * OpenSSH's client leaves Nagle's algorithm on until it is authenticated. It sends its part of the key
 * exchange in two small segments, and its kernel holds the second one until the first is acknowledged. If the
 * server has nothing left to send by then, its kernel delays that acknowledgement by 40 ms; held back, the
 * server's part carries it. RFC 4253, 7.1 leaves open who sends first.
 *
 * Call this before any other listener for the socket's data.
 */
export function holdKexinit(socket: Socket): void {
  let timer: NodeJS.Timeout | undefined;
  let isHeld = false;
  const release = (): void => {
    if (!isHeld) return;
    isHeld = false;
    clearTimeout(timer);
    socket.uncork();
  };
  const onData = (chunk: Buffer): void => {
    if (isHeld) {
      socket.off('data', onData);
      // After the server has read this, so that its answer goes along.
      process.nextTick(release);
      return;
    }
    const end = chunk.indexOf(LINE_FEED);
    if (end === -1) return;
    if (end < chunk.length - 1) {
      socket.off('data', onData);
      return;
    }
    isHeld = true;
    socket.cork();
    timer = setTimeout(release, HOLD_MS);
    socket.once('close', release);
  };
  socket.on('data', onData);
}
