/** Descriptors that the ssh server inherits: a socket to the supervisor, and the socket that clients connect to. */
export const CONTROL_FD = 3;
export const LISTENER_FD = 4;

/** Limits that the ssh door's process keeps. */
export interface SshLimits {
  /** Clients that have not authenticated within this time are cut off, in milliseconds. */
  readonly authenticationTimeoutMs: number;
  /** The same for clients that have not even said which protocol they speak. */
  readonly silenceTimeoutMs: number;
  /** The same for authenticated clients that have not said a byte of the worker protocol, with a session or without. */
  readonly speechlessTimeoutMs: number;
  /** An authenticated client without a session is cut off after this time, in milliseconds. */
  readonly idleTimeoutMs: number;
  /** Time between two requests for a sign of life, in milliseconds. */
  readonly keepaliveIntervalMs: number;
  /** Unauthenticated connections at the same time: of all clients, and of one address. */
  readonly maxUnauthenticated: number;
  readonly maxUnauthenticatedPerSource: number;
  /** Bytes of all connections that one side has sent and the other has not taken yet. */
  readonly maxBufferedBytes: number;
}

/** From the supervisor to the ssh door's process: a JSON object per line. Keys are in base64. */
export type ToDoor =
  | {
      readonly type: 'start';
      readonly hostKey: string;
      readonly keys: readonly string[];
      readonly limits: SshLimits;
    }
  | { readonly type: 'keys'; readonly keys: readonly string[] }
  | {
      readonly type: 'answer';
      readonly connection: number;
      /** Admits sessions of this connection, in hexadecimal; null: the client was rejected. */
      readonly token: string | null;
      readonly maxChannels: number;
    }
  | { readonly type: 'cut'; readonly connection: number };

/** Reports of the ssh door's process, with the level and the text of the log line. */
export const NOTICES = {
  failed: { level: 'info', message: 'ssh connection failed' },
  rejected: { level: 'info', message: 'ssh client rejected: it has no listed key' },
  timeout: { level: 'info', message: 'ssh client cut off: it did not authenticate in time' },
  dropped: { level: 'warn', message: 'ssh connection dropped: too many are unauthenticated' },
  speechless: { level: 'info', message: 'ssh client cut off: it logged in and asked for nothing' },
  idle: { level: 'info', message: 'ssh client cut off: it had no session for too long' },
  buffers: { level: 'warn', message: 'ssh client cut off: it does not read what it asks for' },
} as const;
export type Notice = keyof typeof NOTICES;

/** No message is longer, in bytes: a signature of RSA with 16,384 bits takes 2 KiB. */
export const MAX_MESSAGE_BYTES = 64 * 1024;
/** Bytes with which a stream to the supervisor begins: the token. */
export const TOKEN_BYTES = 32;
/** Name of the socket for streams, in the directory of the process. Short: socket paths are. */
export const STREAM_SOCKET = 's';
/** First byte of the supervisor's answer on a stream. After `REFUSED` the reason follows. */
export const STREAM_ACCEPTED = 0;
export const STREAM_REFUSED = 1;
