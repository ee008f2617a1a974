import { createReadStream, watch } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import type { Front } from '../front/front.js';
import type { BuildHistory } from '../history/history.js';
import type { BuildRecord } from '../history/record.js';
import { DroverError } from '../lib/errors.js';
import { formatBuildId, parseBuildId } from '../lib/human.js';
import type { Pool } from '../pool/pool.js';
import type { BuildReport, BuildsQuery, CancelRequest, RunningBuildReport, Status } from './api.js';
import type { HeldProgram, OpenProgram } from './program-server.js';
import type { RecentEvents } from './recent-events.js';
import type { Runs } from './runs.js';
import { openBuildShell, openShell } from './shells.js';
import type { Vms } from './vms.js';

/** Builds that one answer lists at most. */
const MAX_LISTED = 10_000;

export interface FollowOptions {
  readonly follow: boolean;
  readonly signal: AbortSignal;
  /** Only the end: about this many bytes. Default: all. */
  readonly lastBytes?: number;
}

export interface OperatorParts {
  readonly front: Pick<Front, 'builds' | 'cancel'>;
  readonly pool: Pick<
    Pool,
    'snapshot' | 'pause' | 'resume' | 'drainGuest' | 'bootGuest' | 'enterGuest' | 'enterBuild' | 'keptBuilds'
  >;
  readonly runs: Pick<Runs, 'open'>;
  readonly vms: Pick<Vms, 'open'>;
  readonly history: BuildHistory | undefined;
  readonly status: () => Status;
  readonly events: RecentEvents;
  /** Directory of the consoles of guests that have ended. */
  readonly consoleLogs: string;
}

/** Answers the questions and carries out the orders of people. Ids are those that they type. */
export class Operator {
  readonly #parts: OperatorParts;
  readonly #programs = new AbortController();

  constructor(parts: OperatorParts) {
    this.#parts = parts;
  }

  status(): Status {
    return this.#parts.status();
  }

  get events(): RecentEvents {
    return this.#parts.events;
  }

  get runningBuilds(): readonly RunningBuildReport[] {
    const { front, history } = this.#parts;
    return front.builds.map((build) => {
      const record = history?.running(parseBuildId(build.id) ?? 0);
      const expectedMs = record === undefined ? undefined : history?.expectedMs(record.name);
      return {
        ...build,
        runningSeconds: secondsSince(record?.times.started ?? null),
        expectedSeconds: expectedMs === undefined ? null : Math.round(expectedMs / 1000),
        usage: record?.usage ?? null,
      };
    });
  }

  /** @throws DroverError `HISTORY_OFF` */
  async builds({ limit = 100, ...query }: BuildsQuery): Promise<readonly BuildReport[]> {
    const records = await this.#history.list({ ...query, limit: Math.min(limit, MAX_LISTED) });
    return records.map((record) => this.#report(record));
  }

  /** @throws DroverError `HISTORY_OFF`, `UNKNOWN_BUILD` */
  async build(id: string): Promise<BuildReport> {
    return this.#report(await this.#record(id));
  }

  /** @throws DroverError `HISTORY_OFF`, `UNKNOWN_BUILD` */
  async buildLog(id: string, options: FollowOptions): Promise<AsyncIterable<Uint8Array>> {
    const record = await this.#record(id);
    return this.#history.readLog(record.id, options);
  }

  /** @throws DroverError `UNKNOWN_GUEST` */
  async guestLog(id: string, options: FollowOptions): Promise<AsyncIterable<Uint8Array>> {
    const { pool, consoleLogs } = this.#parts;
    const { guests, programs } = pool.snapshot();
    const running = [...guests, ...programs].find((guest) => guest.id === id);
    if (running !== undefined) return readConsole(running.consoleLog, options);
    // Names begin with the time: the last one is the newest.
    const names = (await readdir(consoleLogs).catch(() => [])).sort();
    const ended = names.findLast((name) => name.endsWith(`-${id}.log`));
    if (ended === undefined || !/^g\d+$/.test(id)) throw this.#unknownGuest(id);
    return readConsole(join(consoleLogs, ended), { ...options, follow: false });
  }

  /** @throws DroverError `UNKNOWN_BUILD`, `BUILD_ENDED` */
  async cancel(id: string, request: CancelRequest): Promise<void> {
    const { front } = this.#parts;
    const number = parseBuildId(id);
    if (number !== undefined && front.cancel(formatBuildId(number), request)) return;
    if (this.#parts.history === undefined) throw this.#unknownBuild(id);
    const { result } = await this.#record(id);
    throw new DroverError(
      'BUILD_ENDED',
      `The build ${formatBuildId(number ?? 0)} has ended: ${result ?? ''}`,
    );
  }

  drainAll(): void {
    this.#parts.pool.pause();
  }

  /** @throws DroverError `UNKNOWN_GUEST` */
  drain(id: string): void {
    this.#requireGuest(id);
    this.#parts.pool.drainGuest(id);
  }

  resume(): void {
    this.#parts.pool.resume();
  }

  /** Aborts when programs of people must end, with the reason. */
  get programsEnd(): AbortSignal {
    return this.#programs.signal;
  }

  /** Guests do not end before the programs in them. */
  endPrograms(): void {
    this.#programs.abort(new DroverError('SHUTTING_DOWN', 'Drover is shutting down'));
  }

  /** Finds the program of a path. @throws DroverError `UNKNOWN_GUEST`, `CONTROL_FAILED` */
  program(path: readonly string[]): OpenProgram {
    const [what, id = '', verb] = path;
    if (what === 'run' && path.length === 1)
      return async (request, _say, gone) => await this.#parts.runs.open(request, gone);
    if (what === 'vm' && path.length === 1)
      return async (request, _say, gone) => await this.#parts.vms.open(request, gone);
    if (what === 'guests' && verb === 'shell')
      return async (request) =>
        await openShell(request, () => {
          this.#requireGuest(id);
          return this.#parts.pool.enterGuest(id);
        });
    if (what === 'builds' && verb === 'shell') return async (request) => await this.#enterBuild(id, request);
    throw new DroverError('CONTROL_FAILED', `There is no program at ${path.join('/').slice(0, 80)}`, {
      hint: 'Client and supervisor may be of different versions.',
    });
  }

  /** @returns the guest's id @throws DroverError `NO_ROOM`, `SHUTTING_DOWN` */
  boot(): string {
    return this.#parts.pool.bootGuest();
  }

  get #history(): BuildHistory {
    const { history } = this.#parts;
    if (history !== undefined) return history;
    throw new DroverError('HISTORY_OFF', 'No history of builds is kept (history: null)', {
      hint: 'Set history in the configuration, and restart Drover.',
    });
  }

  async #record(id: string): Promise<BuildRecord> {
    const number = parseBuildId(id);
    const record = number === undefined ? undefined : await this.#history.get(number);
    if (record === undefined) throw this.#unknownBuild(id);
    return record;
  }

  #report(record: BuildRecord): BuildReport {
    const id = formatBuildId(record.id);
    const running = this.#parts.front.builds.find((build) => build.id === id);
    return {
      ...record,
      id,
      phase: running?.phase ?? null,
      waiting: running?.waiting ?? null,
      expectedMs: this.#history.expectedMs(record.name) ?? null,
    };
  }

  async #enterBuild(id: string, request: unknown): Promise<HeldProgram> {
    const { pool } = this.#parts;
    const build = formatBuildId(parseBuildId(id) ?? 0);
    const found = pool.enterBuild(build);
    if (found !== undefined) return await openBuildShell(request, found);
    await this.#record(id);
    const ids = pool.keptBuilds;
    throw new DroverError('BUILD_NOT_KEPT', `The build ${build} is not kept`, {
      hint:
        ids.length > 0
          ? `Builds that are: ${ids.join(', ')}.`
          : 'None is. Builds that fail are kept for guest.keepFailed, but no longer than their guest lives.',
    });
  }

  #requireGuest(id: string): void {
    const { guests, programs } = this.#parts.pool.snapshot();
    if (programs.some((guest) => guest.id === id))
      throw new DroverError('UNKNOWN_GUEST', `The guest ${id} serves no builds: it is that of drover run`, {
        hint: 'It ends with its program.',
      });
    if (!guests.some((guest) => guest.id === id)) throw this.#unknownGuest(id);
  }

  #unknownBuild(id: string): DroverError {
    const { history } = this.#parts;
    const near = history?.nearest(parseBuildId(id) ?? Number.MAX_SAFE_INTEGER) ?? [];
    return new DroverError('UNKNOWN_BUILD', `There is no build ${id.slice(0, 40)}`, {
      hint: near.length === 0 ? 'The history has no builds yet.' : `The nearest are ${near.join(', ')}.`,
    });
  }

  #unknownGuest(id: string): DroverError {
    const ids = this.#parts.pool.snapshot().guests.map((guest) => guest.id);
    return new DroverError('UNKNOWN_GUEST', `There is no guest ${id.slice(0, 40)}`, {
      hint: ids.length === 0 ? 'No guest runs.' : `Guests that run: ${ids.join(', ')}.`,
    });
  }
}

function secondsSince(time: number | null): number | null {
  return time === null ? null : Math.max(0, Math.round((Date.now() - time) / 1000));
}

/** Yields what is in a file, and with `follow` what is added to it until it is removed. */
async function* readConsole(
  path: string,
  { follow, signal, lastBytes = Infinity }: FollowOptions,
): AsyncGenerator<Uint8Array> {
  let wake = (): void => undefined;
  let changed = true;
  const watcher = follow
    ? watchFile(path, () => {
        changed = true;
        wake();
      })
    : undefined;
  signal.addEventListener('abort', () => {
    wake();
  });
  try {
    const begun = (await sizeOf(path)) ?? 0;
    for (let at = Math.max(0, begun - lastBytes); !signal.aborted;) {
      changed = false;
      const size = await sizeOf(path);
      if (size !== undefined && size > at) {
        yield* createReadStream(path, { start: at, end: size - 1 }) as AsyncIterable<Uint8Array>;
        at = size;
      }
      if (!follow || size === undefined || watcher === undefined) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (changed || signal.aborted) resolve();
      });
    }
  } finally {
    watcher?.close();
  }
}

/** @returns undefined if the file is gone */
function watchFile(path: string, onChange: () => void): ReturnType<typeof watch> | undefined {
  try {
    return watch(path, { persistent: false }, onChange).on('error', onChange);
  } catch {
    return undefined;
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  return await stat(path).then(
    ({ size }) => size,
    () => undefined,
  );
}
