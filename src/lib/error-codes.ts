/** Exit statuses of commands, after sysexits.h where it has a fitting one. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  unavailable: 69,
  inUse: 75,
  notPermitted: 77,
  configuration: 78,
} as const;

interface CodeFacts {
  /** Exit status of a command that fails with this code. */
  readonly exit: (typeof EXIT)[keyof typeof EXIT];
  /** A session commonly ends with it: metrics count it under its own name from the start. */
  readonly endsSessions: boolean;
  /** The failure lies with the guest, not with the build: the build is started again elsewhere. */
  readonly losesGuest: boolean;
}

function facts(exit: keyof typeof EXIT, ...uses: ('session' | 'guest')[]): CodeFacts {
  return { exit: EXIT[exit], endsSessions: uses.includes('session'), losesGuest: uses.includes('guest') };
}

/** Every code of a DroverError. docs/errors.md explains each of them. */
export const ERROR_CODES = {
  ADDRESS_IN_USE: facts('inUse'),
  ADDRESS_UNUSABLE: facts('configuration'),
  AUDIT_UNUSABLE: facts('configuration', 'session'),
  BOOT_CANCELLED: facts('failure'),
  BOOT_FAILED: facts('failure', 'session'),
  BOOT_TIMEOUT: facts('failure', 'session'),
  BUILD_CANCELLED: facts('failure', 'session'),
  BUILD_ENDED: facts('failure'),
  BUILD_NOT_KEPT: facts('failure'),
  CLIENT_GONE: facts('failure', 'session'),
  CLIENT_STALLED: facts('failure', 'session'),
  CONFIG_INVALID: facts('configuration'),
  CONFIG_UNREADABLE: facts('configuration'),
  CONTROL_FAILED: facts('failure'),
  DIRECTORY_NOT_PRIVATE: facts('configuration'),
  DIRECTORY_UNUSABLE: facts('configuration'),
  GROUP_UNUSABLE: facts('configuration'),
  GUEST_AGENT_FAILED: facts('failure', 'session', 'guest'),
  GUEST_CONFLICT: facts('failure'),
  GUEST_EXEC_FAILED: facts('failure', 'guest'),
  GUEST_FULL: facts('failure'),
  GUEST_GONE: facts('failure', 'session', 'guest'),
  GUEST_LOST: facts('unavailable', 'session'),
  GUEST_REFUSED: facts('failure'),
  GUEST_UNTRUSTED: facts('failure'),
  GUEST_VERSION: facts('failure'),
  HISTORY_OFF: facts('failure'),
  HOST_EXHAUSTED: facts('unavailable', 'session'),
  HOST_KEY_UNUSABLE: facts('failure'),
  HOST_STORE_UNAVAILABLE: facts('unavailable', 'session'),
  IDENTITY_UNUSABLE: facts('usage'),
  ILLEGAL_TRANSITION: facts('failure'),
  IMAGE_UNUSABLE: facts('unavailable'),
  KEY_UNUSABLE: facts('failure'),
  LOG_UNUSABLE: facts('configuration'),
  NAME_UNUSABLE: facts('usage'),
  NAR_INVALID: facts('failure', 'session'),
  NAR_TRUNCATED: facts('failure'),
  NIX_UNUSABLE: facts('unavailable'),
  NIX_VULNERABLE: facts('configuration'),
  NO_LEASE: facts('failure'),
  NO_ROOM: facts('failure'),
  NO_SPACE: facts('unavailable'),
  NOT_PERMITTED: facts('notPermitted'),
  NOT_ROOT: facts('notPermitted'),
  NOT_RUNNING: facts('unavailable'),
  OPERATION_REFUSED: facts('failure'),
  PROGRAM_FAILED: facts('failure', 'guest'),
  PROGRAM_NOT_FOUND: facts('failure'),
  PROTOCOL_LIMIT: facts('failure'),
  PROTOCOL_MALFORMED: facts('failure', 'session'),
  PROTOCOL_NOT_NIX: facts('failure', 'session'),
  PROTOCOL_REMOTE_ERROR: facts('failure'),
  PROTOCOL_TRUNCATED: facts('failure', 'session'),
  PROTOCOL_UNSUPPORTED: facts('failure', 'session'),
  PROTOCOL_VERSION: facts('failure'),
  PROVISION_FAILED: facts('failure', 'session'),
  REQUIREMENT_MISSING: facts('unavailable'),
  RUN_REFUSED: facts('failure'),
  SHUTTING_DOWN: facts('failure', 'session'),
  SSH_DOOR_FAILED: facts('unavailable'),

  SYSTEM_NOT_SERVED: facts('configuration'),
  TOO_MANY_BUILDS: facts('failure', 'session'),
  TOO_MANY_STREAMS: facts('failure'),
  TRIAL_FAILED: facts('failure'),
  UNIT_INVALID: facts('failure'),
  UNKNOWN_BUILD: facts('failure'),
  UNKNOWN_GUEST: facts('failure'),
  UNKNOWN_WAITER: facts('failure'),
  UPLOAD_INVALID: facts('failure', 'session'),
  VM_REFUSED: facts('failure'),
  VSOCK_REFUSED: facts('failure'),
  VZ_HELPER_ENDED: facts('failure'),
  VZ_HELPER_FAILED: facts('failure'),
  VZ_HELPER_REFUSED: facts('failure'),
} as const satisfies Readonly<Record<string, CodeFacts>>;

export type DroverErrorCode = keyof typeof ERROR_CODES;

/** The facts about a code of unknown origin; undefined for one that is not Drover's. */
export function codeFacts(code: string | undefined): CodeFacts | undefined {
  return code !== undefined && Object.hasOwn(ERROR_CODES, code)
    ? ERROR_CODES[code as DroverErrorCode]
    : undefined;
}

/** The codes that sessions commonly end with. */
export const SESSION_CODES = (Object.keys(ERROR_CODES) as DroverErrorCode[]).filter(
  (code) => ERROR_CODES[code].endsSessions,
);
