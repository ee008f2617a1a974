import { DroverError, errorCode } from '../lib/errors.js';

/** Exit statuses, after sysexits.h where it has a word for it. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  unavailable: 69,
  inUse: 75,
  notPermitted: 77,
  configuration: 78,
  interrupted: 130,
} as const;

const EXIT_OF_CODE: Readonly<Record<string, number>> = {
  IDENTITY_UNUSABLE: EXIT.usage,
  CONFIG_INVALID: EXIT.configuration,
  CONFIG_UNREADABLE: EXIT.configuration,
  ADDRESS_UNUSABLE: EXIT.configuration,
  LOG_UNUSABLE: EXIT.configuration,
  SYSTEM_NOT_SERVED: EXIT.configuration,
  DIRECTORY_UNUSABLE: EXIT.configuration,
  DIRECTORY_NOT_PRIVATE: EXIT.configuration,
  NOT_ROOT: EXIT.notPermitted,
  NOT_PERMITTED: EXIT.notPermitted,
  EACCES: EXIT.notPermitted,
  EPERM: EXIT.notPermitted,
  ADDRESS_IN_USE: EXIT.inUse,
  INTERRUPTED: EXIT.interrupted,
  NOT_RUNNING: EXIT.unavailable,
  REQUIREMENT_MISSING: EXIT.unavailable,
  NIX_UNUSABLE: EXIT.unavailable,
  IMAGE_UNUSABLE: EXIT.unavailable,
  NO_SPACE: EXIT.unavailable,
  HOST_STORE_UNAVAILABLE: EXIT.unavailable,
};

/** The exit status that tells a script what went wrong. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof DroverError && error.code === 'SUPERVISOR_FAILED') {
    const { status } = error.context;
    // A supervisor that was to be started here says why it ended.
    if (typeof status === 'number' && status !== EXIT.ok) return status;
  }
  return EXIT_OF_CODE[errorCode(error) ?? ''] ?? EXIT.failure;
}
