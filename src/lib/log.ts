import { closeSync, openSync } from 'node:fs';

import { pino, type Logger } from 'pino';

import { DroverError, errorCode, errorMessage } from './errors.js';
import { formatLine, standardErrorFormat, type LogFormat } from './log-format.js';
import { printableLines } from './printable.js';
import { strictModesFault } from './strict-modes.js';

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
 * The process's log on standard error, so that standard output stays the commands' own: JSON lines, for a person at a
 * terminal text, and with priorities where systemd's journal reads it. Messages are constant, variables go into fields,
 * and no field ever holds a key, a derivation's environment or a build's log.
 */
export function createLog(level: string, format: LogFormat = 'json'): Log {
  return logTo(level, format, pino.destination({ dest: 2, sync: true, maxLength: MAX_BACKLOG_BYTES }));
}

/**
 * The same, or JSON lines appended to `file` if one is given.
 * @throws DroverError `LOG_UNUSABLE`
 */
export async function openLog(
  { level, file }: { readonly level: string; readonly file: string | undefined },
  env: NodeJS.ProcessEnv = {},
): Promise<ServiceLog> {
  if (file === undefined) return { log: createLog(level, standardErrorFormat(env)), reopen: () => undefined };
  try {
    // Its owner could put a link there, to a file that only this user may write.
    const fault = await strictModesFault(file, { groupMayWrite: true });
    if (fault !== undefined) throw new Error(fault);
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
  const log = logTo(level, 'json', destination);
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
function logTo(level: string, format: LogFormat, destination: ReturnType<typeof pino.destination>): Log {
  destination.on('error', () => undefined);
  // JSON escapes C0 control characters only. What a terminal shows is made printable as text, too.
  const hooks = {
    streamWrite: (line: string) => printableLines(formatLine(printableLines(line), format)),
  };
  const serializers = { err: (error: unknown) => describe(error, log.isLevelEnabled('debug')) };
  const timestamp = pino.stdTimeFunctions.isoTime;
  const log: Log = pino({ level, base: null, timestamp, hooks, serializers }, destination);
  return log;
}

/** An error's fields. Its stack is for developers, who set the level to `debug`. */
function describe(error: unknown, withStack: boolean): Record<string, unknown> {
  const { hint, context } = error instanceof DroverError ? error : {};
  return {
    code: errorCode(error),
    message: errorMessage(error),
    hint,
    ...(context === undefined || Object.keys(context).length === 0 ? {} : { context }),
    ...(withStack && error instanceof Error ? { stack: error.stack } : {}),
  };
}
