import { unlink } from 'node:fs/promises';
import { join } from 'node:path';

import { ConsoleLog } from '../lib/console-log.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import { listDirectory, makePrivateDir } from '../lib/private-dir.js';
import type { StateDir } from '../lib/state-dir.js';

/** Logs that are kept of guests that failed. */
const KEPT_LOGS = 20;

/** The console logs of guests, in `<stateDir>/logs`. */
export class ConsoleLogs {
  readonly #directory: string;
  /** Ids restart with each supervisor; names of logs do not. */
  readonly #startedAt = new Date().toISOString().replace(/[-:]|\.\d+/g, '');

  constructor({ logs }: StateDir) {
    this.#directory = logs;
  }

  path(id: string): string {
    return join(this.#directory, `${this.#startedAt}-${id}.log`);
  }

  /** Makes the directory. @returns the log's path */
  async prepare(id: string): Promise<string> {
    await makePrivateDir(this.#directory);
    return this.path(id);
  }

  async open(id: string): Promise<ConsoleLog> {
    return new ConsoleLog(await this.prepare(id));
  }

  /** Removes all but the newest. */
  async prune(): Promise<void> {
    const logs = await listDirectory(this.#directory);
    for (const log of logs.slice(0, -KEPT_LOGS)) await unlink(join(this.#directory, log));
  }
}

/**
 * The error of a boot: why, and the last lines that the guest printed.
 * @param tail those
 */
export function bootFailed(id: string, cause: unknown, path: string, tail: string): DroverError {
  return new DroverError(
    'BOOT_FAILED',
    `The guest ${id} did not boot: ${errorMessage(cause)}${tail === '' ? '' : `\n${tail}`}\n(console log: ${path})`,
    {
      cause,
      hint: cause instanceof DroverError ? cause.hint : undefined,
      context: { guest: id, consoleLog: path },
    },
  );
}
