import { codeFacts, EXIT } from '../lib/error-codes.js';
import { DroverError, errorCode, errorMessage } from '../lib/errors.js';

/** A failed command's error for people: what happened, and what to do about it. */
export function renderError(error: unknown): string {
  const hint = error instanceof DroverError ? error.hint : undefined;
  return `drover: ${errorMessage(error)}${hint === undefined ? '' : `\n  ${hint}`}\n`;
}

/** The exit status that tells a script what went wrong. */
export function exitCodeOf(error: unknown): number {
  const code = errorCode(error);
  // Node's own codes.
  if (code === 'EACCES' || code === 'EPERM') return EXIT.notPermitted;
  return codeFacts(code)?.exit ?? EXIT.failure;
}
