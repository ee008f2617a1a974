import type { DroverErrorCode } from './error-codes.js';
import { printableLines } from './printable.js';

/** Structured facts about a failure, safe to log: never a secret. */
export type ErrorContext = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * Base class of every failure that Drover reports. Callers compare `code`, which is stable (`instanceof` is unreliable
 * across realms); `hint` says what the reader can do.
 */
export class DroverError extends Error {
  override readonly name: string = 'DroverError';
  readonly code: DroverErrorCode;
  readonly hint: string | undefined;
  readonly context: ErrorContext;

  constructor(
    code: DroverErrorCode,
    message: string,
    options: { cause?: unknown; hint?: string | undefined; context?: ErrorContext } = {},
  ) {
    // Guests, clients and files have a say in messages.
    super(printableLines(message), 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.hint = options.hint === undefined ? undefined : printableLines(options.hint);
    this.context = options.context ?? {};
  }
}

/** The stable code of any thrown value: a DroverError's, Node's (`ENOENT`), or undefined. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Printable text for any thrown value, causes included. */
export function errorMessage(error: unknown): string {
  if (!(error instanceof Error) && !(typeof error === 'object' && error !== null && 'message' in error)) {
    return printableLines(String(error));
  }
  const { message: raw, cause } = error as Error;
  const message = printableLines(raw);
  if (cause === undefined) return message;
  const inner = errorMessage(cause);
  return message.includes(inner) ? message : `${message}: ${inner}`;
}
