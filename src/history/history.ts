import { mkdir, readdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '../lib/clock.js';
import { errorMessage } from '../lib/errors.js';
import { formatBuildId, parseBuildId } from '../lib/human.js';
import type { Log } from '../lib/log.js';
import { BuildLogWriter, readBuildLog } from './build-log.js';
import { decodeRecord, encodeRecord, type BuildRecord } from './record.js';
import { Segments, type LinePosition } from './segments.js';

/** Builds of one name whose durations make its expected duration. */
const EXPECTATION_BUILDS = 9;
/** Length of an error text that is kept. */
const MAX_ERROR_CHARACTERS = 16 * 1024;

export interface HistoryLimits {
  /** Builds that were asked for longer ago are forgotten, in milliseconds. */
  readonly keepMs: number;
  readonly maxBuilds: number;
  /** Bytes of all files together, within one segment of 1 MiB. */
  readonly maxBytes: number;
  /** Whose logs are kept. */
  readonly logs: 'all' | 'failed' | 'none';
}

export interface HistoryOptions {
  readonly dir: string;
  readonly limits: HistoryLimits;
  readonly clock: Clock;
  readonly log: Log;
}

/** A finished build in memory; the rest of it is on disk. */
interface Entry {
  readonly id: number;
  readonly name: string;
  readonly asked: number;
  readonly succeeded: boolean;
  readonly storedBytes: number;
  readonly position: LinePosition;
}

export interface HistoryQuery {
  readonly failed?: boolean;
  /** Milliseconds since 1970. */
  readonly since?: number;
  /** Names, or parts of names, of which one must occur. */
  readonly names?: readonly string[];
  readonly limit?: number;
}

/**
 * Builds that there have been, on disk: a line for each state that is worth keeping, of which the last one counts, and
 * a file for each log. Bounded by number, age and bytes. A failing disk costs history, never a build.
 */
export class BuildHistory {
  readonly #options: HistoryOptions;
  readonly #segments: Segments;
  readonly #entries = new Map<number, Entry>();
  /** Entries by the segment that they lie in. */
  readonly #entriesIn = new Map<number, number>();
  /** Durations of the last successful builds by name, newest last. */
  readonly #durations = new Map<string, number[]>();
  #logBytes = 0;
  /** Builds that go on. */
  readonly #open = new Map<number, BuildRecord>();
  readonly #writers = new Map<number, BuildLogWriter>();
  #nextId = 1;
  #writable = true;
  #pruning: Promise<void> = Promise.resolve();

  private constructor(options: HistoryOptions) {
    this.#options = options;
    this.#segments = new Segments(options.dir, 'builds');
  }

  /** Reads back what an earlier supervisor has kept. Lines that cannot be read are left out, and counted in the log. */
  static async open(options: HistoryOptions): Promise<BuildHistory> {
    await mkdir(join(options.dir, 'logs'), { recursive: true, mode: 0o700 });
    const history = new BuildHistory(options);
    await history.#load();
    return history;
  }

  async #load(): Promise<void> {
    const { log, dir } = this.#options;
    let unreadable = 0;
    const begun = new Map<number, BuildRecord>();
    for await (const { line, position } of this.#segments.load()) {
      const record = decodeRecord(line);
      if (record === undefined) {
        if (line !== '') unreadable += 1;
        continue;
      }
      this.#nextId = Math.max(this.#nextId, record.id + 1);
      if (record.result === null) begun.set(record.id, record);
      else {
        begun.delete(record.id);
        this.#index(record, position);
      }
    }
    if (unreadable > 0) log.warn({ lines: unreadable, dir }, 'unreadable lines in the build history skipped');
    for (const record of begun.values()) {
      this.#open.set(record.id, record);
      // The supervisor that wrote the line ended before the build did.
      await this.finish(record.id, {
        result: 'Interrupted',
        succeeded: false,
        error: 'Drover ended before the build did',
      });
    }
    await this.#removeStrayLogs();
    await this.#prune();
  }

  async #removeStrayLogs(): Promise<void> {
    const dir = join(this.#options.dir, 'logs');
    for (const name of await readdir(dir)) {
      const id = parseBuildId(name.replace(/\.gz$/, ''));
      if (id === undefined || !this.#entries.has(id)) await unlink(join(dir, name)).catch(() => undefined);
    }
  }

  #index(record: BuildRecord, position: LinePosition): void {
    const { id, name, times, succeeded, log } = record;
    const durationMs =
      succeeded === true && times.started !== null && times.ended !== null
        ? times.ended - times.started
        : null;
    if (durationMs !== null && !this.#entries.has(id)) {
      const durations = this.#durations.get(name) ?? [];
      this.#durations.set(name, [...durations, durationMs].slice(-EXPECTATION_BUILDS));
    }
    this.#forget(id);
    this.#entries.set(id, {
      ...{ id, name, asked: times.asked, succeeded: succeeded === true },
      ...{ storedBytes: log.storedBytes, position },
    });
    this.#logBytes += log.storedBytes;
    this.#entriesIn.set(position.segment, (this.#entriesIn.get(position.segment) ?? 0) + 1);
  }

  #forget(id: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    const { storedBytes, position } = entry;
    this.#entries.delete(id);
    this.#logBytes -= storedBytes;
    this.#entriesIn.set(position.segment, (this.#entriesIn.get(position.segment) ?? 0) - 1);
  }

  /** Begins a build's record. @returns its id */
  begin(facts: Pick<BuildRecord, 'derivation' | 'name' | 'system' | 'client'>): number {
    const id = this.#nextId++;
    const record: BuildRecord = {
      ...{ id, ...facts, guest: null, generation: null },
      times: {
        ...{ asked: this.#options.clock.wallNow(), leased: null, provisioned: null },
        ...{ started: null, ended: null, fetched: null },
      },
      ...{ result: null, succeeded: null, error: null, replays: [] },
      inputs: { shared: 0, copied: 0, copiedBytes: 0 },
      ...{ relayedBytes: 0, usage: null, log: { lines: 0, bytes: 0, storedBytes: 0 } },
    };
    this.#open.set(id, record);
    void this.#write(record);
    return id;
  }

  /** Changes the record of a build that goes on; nothing for one that does not. */
  update(id: number, change: (record: BuildRecord) => Partial<BuildRecord>): void {
    const record = this.#open.get(id);
    if (record !== undefined) this.#open.set(id, { ...record, ...change(record) });
  }

  /**
   * Adds text to the log of a build that goes on.
   * @returns a promise to wait for before more is added, if the disk is behind
   */
  addLog(id: number, text: string): Promise<void> | undefined {
    this.update(id, ({ log }) => ({
      log: { ...log, lines: log.lines + countLines(text), bytes: log.bytes + Buffer.byteLength(text) },
    }));
    if (this.#options.limits.logs === 'none' || !this.#open.has(id)) return undefined;
    let writer = this.#writers.get(id);
    if (writer === undefined) {
      writer = new BuildLogWriter(this.#logPath(id), this.#options.clock);
      this.#writers.set(id, writer);
    }
    return writer.write(text);
  }

  /** Ends a build's record. Settles when it is on disk, or cannot be. */
  async finish(
    id: number,
    outcome: Pick<BuildRecord, 'succeeded' | 'error'> & { readonly result: string },
  ): Promise<void> {
    const open = this.#open.get(id);
    if (open === undefined || open.result !== null) return;
    const ended = this.#options.clock.wallNow();
    const error = outcome.error?.slice(0, MAX_ERROR_CHARACTERS) ?? null;
    this.update(id, ({ times }) => ({ ...outcome, error, times: { ...times, ended } }));
    const writer = this.#writers.get(id);
    await writer?.flush();
    this.#writers.delete(id);
    const keepsLog = this.#options.limits.logs === 'all' || outcome.succeeded !== true;
    if (!keepsLog) await unlink(this.#logPath(id)).catch(() => undefined);
    const storedBytes = keepsLog ? await sizeOf(this.#logPath(id)) : 0;
    this.update(id, ({ log }) => ({ log: { ...log, storedBytes } }));
    const record = this.#open.get(id);
    if (record === undefined) return;
    const position = await this.#write(record);
    this.#open.delete(id);
    if (position !== undefined) this.#index(record, position);
    this.#pruning = this.#pruning.then(() => this.#prune());
    await this.#pruning;
  }

  /** Adds what is known only after the end: that the client has fetched the outputs. */
  async amend(id: number, change: (record: BuildRecord) => Partial<BuildRecord>): Promise<void> {
    const record = await this.get(id);
    if (record === undefined || record.result === null) {
      this.update(id, change);
      return;
    }
    const amended = { ...record, ...change(record) };
    const position = await this.#write(amended);
    if (position !== undefined && this.#entries.has(id)) this.#index(amended, position);
  }

  /** @returns undefined for a build that is not known, or not any more */
  async get(id: number): Promise<BuildRecord | undefined> {
    const open = this.#open.get(id);
    if (open !== undefined) return open;
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    return decodeRecord(await this.#segments.read(entry.position).catch(() => ''));
  }

  /** Builds that go on, oldest first. */
  get running(): readonly BuildRecord[] {
    return [...this.#open.values()];
  }

  /** The newest builds first, those that go on included. */
  async list({ failed, since, names, limit = 100 }: HistoryQuery = {}): Promise<readonly BuildRecord[]> {
    const fits = (name: string, asked: number): boolean =>
      (since === undefined || asked >= since) &&
      (names === undefined || names.length === 0 || names.some((part) => name.includes(part)));
    const open = failed === true ? [] : this.running.filter(({ name, times }) => fits(name, times.asked));
    const ids = [
      ...open.map(({ id }) => id),
      ...[...this.#entries.values()]
        .filter((entry) => fits(entry.name, entry.asked) && (failed !== true || !entry.succeeded))
        .map(({ id }) => id),
    ];
    const newest = ids.sort((a, b) => b - a).slice(0, limit);
    return (await Promise.all(newest.map((id) => this.get(id)))).filter((record) => record !== undefined);
  }

  /** Ids that are nearest to one that is not known, for error messages. */
  nearest(id: number, count = 3): readonly string[] {
    return [...this.#entries.keys(), ...this.#open.keys()]
      .sort((a, b) => Math.abs(a - id) - Math.abs(b - id))
      .slice(0, count)
      .map(formatBuildId);
  }

  /** Median duration in milliseconds of the last successful builds of that name; undefined if there was none. */
  expectedMs(name: string): number | undefined {
    const durations = [...(this.#durations.get(name) ?? [])].sort((a, b) => a - b);
    return durations[Math.floor(durations.length / 2)];
  }

  /** The log of a build, as far as there is one. */
  async *readLog(id: number): AsyncGenerator<Buffer> {
    await this.#writers.get(id)?.flush();
    yield* readBuildLog(this.#logPath(id));
  }

  /** Settles when everything so far is on disk. */
  async close(): Promise<void> {
    await Promise.all([...this.#writers.values()].map((writer) => writer.flush()));
    await this.#pruning;
    await this.#segments.flush();
  }

  async #write(record: BuildRecord): Promise<LinePosition | undefined> {
    const { log, dir } = this.#options;
    try {
      const position = await this.#segments.append(encodeRecord(record));
      if (!this.#writable) log.info({ dir }, 'build history is being written again');
      this.#writable = true;
      return position;
    } catch (error) {
      if (this.#writable)
        log.warn(
          { dir, reason: errorMessage(error) },
          'build history cannot be written; builds go on without it',
        );
      this.#writable = false;
      return undefined;
    }
  }

  async #prune(): Promise<void> {
    const { limits, clock } = this.#options;
    const oldest = clock.wallNow() - limits.keepMs;
    for (const { id, asked, storedBytes } of this.#entries.values()) {
      const tooMany = this.#entries.size > limits.maxBuilds;
      const tooLarge = this.#logBytes + this.#segments.bytes > limits.maxBytes;
      if (asked >= oldest && !tooMany && !tooLarge) break;
      this.#forget(id);
      if (storedBytes > 0) await unlink(this.#logPath(id)).catch(() => undefined);
      await this.#removeEmptySegments();
    }
  }

  async #removeEmptySegments(): Promise<void> {
    for (const segment of this.#segments.all) {
      if (segment === this.#segments.current || (this.#entriesIn.get(segment) ?? 0) > 0) return;
      this.#entriesIn.delete(segment);
      await this.#segments.remove(segment);
    }
  }

  #logPath(id: number): string {
    return join(this.#options.dir, 'logs', `${formatBuildId(id)}.gz`);
  }
}

async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lines += 1;
  return lines;
}
