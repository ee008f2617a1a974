import { connect, type Socket } from 'node:net';

import type { ServerChannel } from 'ssh2';

import { STREAM_ACCEPTED, STREAM_SOCKET } from './messages.js';

/**
 * Maximum number of bytes queued for a client before the supervisor's stream is paused: per session, and per
 * connection.
 */
const MAX_WAITING_BYTES = { channel: 256 * 1024, connection: 1024 * 1024 };
/** Number of bytes read at a time. */
const BUFFER_BYTES = 128 * 1024;
const EXIT_FAILURE = 1;

/** A session that is passed on to the supervisor. */
export interface SessionStream {
  /** Bytes that one side has sent and the other has not taken yet. */
  readonly bufferedBytes: number;
  /** Whether the client has sent anything. */
  readonly hasSpoken: boolean;
  /** To be called when the connection's socket has room again. */
  readonly resume: () => void;
  /** Ends it without a word to the client, whose connection is gone. */
  readonly destroy: () => void;
}

/**
 * Joins a channel to a new stream to the supervisor.
 * @param socket the connection's socket, which shows how fast the client reads: ssh2 sends as much as the
 *   client's window allows, whether or not the client reads it
 */
export function joinSession(channel: ServerChannel, token: Buffer, socket: Socket): SessionStream {
  let buffer: Buffer | undefined;
  const stream = connect({
    path: STREAM_SOCKET,
    // One buffer for all: with one for each chunk, a large output costs more time in memory management than in copying.
    onread: {
      buffer: () => (buffer ??= Buffer.allocUnsafeSlow(BUFFER_BYTES)),
      callback: (length, into) => {
        receive(Buffer.from(into.buffer, into.byteOffset, length));
        return true;
      },
    },
  });
  let isGone = false;
  let isAccepted: boolean | undefined;
  stream.write(token);
  channel.pipe(stream);
  const full = (): boolean =>
    channel.writableLength > MAX_WAITING_BYTES.channel ||
    socket.writableLength > MAX_WAITING_BYTES.connection;
  const resume = (): void => {
    if (!isGone && !full()) stream.resume();
  };
  const pass = (bytes: Buffer): void => {
    if (bytes.length === 0) return;
    if (isAccepted === true) {
      // All its packets in one system call.
      socket.cork();
      channel.write(bytes, resume);
      socket.uncork();
      // The client's window is used up: the channel keeps the buffer.
      if (channel.writableLength > 0) buffer = undefined;
    } else channel.stderr.write(Buffer.from(bytes));
    if (full()) stream.pause();
  };
  const end = (status: number): void => {
    if (isGone) return;
    isGone = true;
    // Before the end: afterwards ssh2 sends no status.
    channel.exit(status);
    channel.end();
  };
  const receive = (bytes: Buffer): void => {
    if (isGone) return;
    if (isAccepted === undefined) {
      isAccepted = bytes[0] === STREAM_ACCEPTED;
      pass(bytes.subarray(1));
    } else pass(bytes);
  };
  stream.resume();
  stream.once('end', () => {
    end(isAccepted === true ? 0 : EXIT_FAILURE);
  });
  stream.once('close', () => {
    end(EXIT_FAILURE);
    // The channel may have more to send, of which there is no use.
    channel.resume();
  });
  stream.on('error', () => undefined);
  channel.on('error', () => undefined);
  channel.once('close', () => {
    isGone = true;
    // The client's last bytes are still in flight.
    stream.end(() => stream.destroy());
    stream.resume();
  });
  return {
    get hasSpoken() {
      return stream.bytesWritten > token.length;
    },
    get bufferedBytes() {
      return channel.readableLength + channel.writableLength + stream.writableLength;
    },
    resume,
    destroy: () => {
      isGone = true;
      stream.destroy();
    },
  };
}
