import { closeSync, openSync } from 'node:fs';

import { pino, type Logger } from 'pino';

import { DroverError, errorMessage } from './errors.js';
import { printableLines } from './printable.js';

export type Log = Logger;

/** The log of a long-running process. */
export interface ServiceLog {
  readonly log: Log;
  /** Continues in a new file of the same name after the old one was renamed. Without a file, does nothing. */
  readonly reopen: () => void;
}

/** Maximum size of lines that wait in memory to be written, in bytes. */
const MAX_BACKLOG_BYTES = 1024 * 1024;
/** Mode of a log file that this process makes. */
const FILE_MODE = 0o640;

/**
 * The process's log: JSON lines on standard error, so that standard output stays the commands' own. Messages are
 * constant, variables go into fields, and no field ever holds a key, a derivation's environment or a build's log.
 */
export function createLog(level: string): Log {
  return logTo(level, pino.destination({ dest: 2, sync: true, maxLength: MAX_BACKLOG_BYTES }));
}

/**
 * The same lines, appended to `file` if one is given.
 * @throws DroverError `LOG_UNUSABLE`
 */
export function openLog({
  level,
  file,
}: {
  readonly level: string;
  readonly file: string | undefined;
}): ServiceLog {
  if (file === undefined) return { log: createLog(level), reopen: () => undefined };
  try {
    touch(file);
  } catch (cause) {
    throw new DroverError('LOG_UNUSABLE', `The log file ${file} cannot be written: ${errorMessage(cause)}`, {
      cause,
      hint: 'Make its directory, choose another log.file, or leave out log.file to log to standard error.',
    });
  }
  const destination = pino.destination({
    dest: file,
    ...{ sync: true, append: true, mode: FILE_MODE, maxLength: MAX_BACKLOG_BYTES },
  });
  const log = logTo(level, destination);
  return {
    log,
    reopen: () => {
      try {
        touch(file);
        destination.reopen();
      } catch (error) {
        log.error(
          { reason: errorMessage(error) },
          'log file could not be reopened; still writing to the old one',
        );
      }
    },
  };
}

/** Throws if the file cannot be opened. pino, which opens it afterwards, would lose track of the old one. */
function touch(file: string): void {
  closeSync(openSync(file, 'a', FILE_MODE));
}

/** A log that cannot be written, as on a full disk, must not end the supervisor and its builds. */
function logTo(level: string, destination: ReturnType<typeof pino.destination>): Log {
  destination.on('error', () => undefined);
  // JSON escapes C0 control characters only. Both pass a line's own line feed.
  const hooks = { streamWrite: printableLines };
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime, hooks }, destination);
}
