import { DroverError, type ErrorContext } from '../lib/errors.js';

/**
 * Kinds of failure on a worker-protocol connection.
 * - `PROTOCOL_MALFORMED`: bytes that no Nix would write (non-zero padding, an unknown tag, a bad path).
 * - `PROTOCOL_LIMIT`: well-formed so far, but larger than `limits.ts` allows.
 * - `PROTOCOL_TRUNCATED`: the stream ended inside a message.
 * - `PROTOCOL_NOT_NIX`: the peer's first bytes are not the worker protocol's.
 * - `PROTOCOL_VERSION`: the two sides have no version in common.
 * - `PROTOCOL_UNSUPPORTED`: a value that the negotiated version cannot carry.
 * - `PROTOCOL_REMOTE_ERROR`: the peer's daemon answered with an error of its own.
 */
export type ProtocolErrorCode =
  | 'PROTOCOL_MALFORMED'
  | 'PROTOCOL_LIMIT'
  | 'PROTOCOL_TRUNCATED'
  | 'PROTOCOL_NOT_NIX'
  | 'PROTOCOL_VERSION'
  | 'PROTOCOL_UNSUPPORTED'
  | 'PROTOCOL_REMOTE_ERROR';

/** Every failure of this folder: a decoder, an encoder or a handshake throws nothing else. */
export class ProtocolError extends DroverError {
  override readonly name: string = 'ProtocolError';
  declare readonly code: ProtocolErrorCode;

  constructor(
    code: ProtocolErrorCode,
    message: string,
    options: { cause?: unknown; hint?: string | undefined; context?: ErrorContext } = {},
  ) {
    super(code, message, options);
  }
}

/** Shorthand for the commonest failure. */
export function malformed(message: string, context: ErrorContext = {}): ProtocolError {
  return new ProtocolError('PROTOCOL_MALFORMED', message, { context });
}
