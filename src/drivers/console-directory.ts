import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { ConsoleLog } from '../lib/console-log.js';
import { DroverError, errorMessage } from '../lib/errors.js';
import { listDirectory, makePrivateDir } from '../lib/private-dir.js';
import type { StateDir } from '../lib/state-dir.js';

/** Logs that are kept of guests that failed. */
const KEPT_LOGS = 20;

/** The console logs of guests, in `<stateDir>/logs`. */
export class ConsoleLogs {
  readonly #stateDir: StateDir;
  readonly #directory: string;
  /** Ids restart with each supervisor; names of logs do not. */
  readonly #startedAt = new Date().toISOString().replace(/[-:]|\.\d+/g, '');

  constructor(stateDir: StateDir) {
    this.#stateDir = stateDir;
    this.#directory = stateDir.logs;
  }

  path(id: string): string {
    return join(this.#directory, `${this.#startedAt}-${id}.log`);
  }

  /** Makes the directory, and room in it. @returns the log's path */
  async prepare(id: string): Promise<string> {
    await makePrivateDir(this.#directory);
    await this.prune();
    return this.path(id);
  }

  async open(id: string): Promise<ConsoleLog> {
    return new ConsoleLog(await this.prepare(id));
  }

  /** Removes all but the newest; those of guests that exist stay, and do not count. */
  async prune(): Promise<void> {
    const alive = new Set((await listDirectory(this.#stateDir.guests)).map((id) => basename(this.path(id))));
    const logs = (await listDirectory(this.#directory)).filter((log) => !alive.has(log)).sort(byAge);
    for (const log of logs.slice(0, -KEPT_LOGS)) await rm(join(this.#directory, log), { force: true });
  }
}

/** By the start of the supervisor, then by the number of the guest: g9 before g10. */
function byAge(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
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
