import { join } from 'node:path';

import type { Clock } from '../lib/clock.js';
import { formatBuildId } from '../lib/human.js';
import type { Log } from '../lib/log.js';
import { encodeNixString, nixStringLength } from '../protocol/nix-string.js';
import { BuildLogs, type ReadLogOptions } from './log-store.js';
import { decodeRecord, type BuildRecord, type StoredRecord } from './record.js';
import { RecordWriter } from './record-writer.js';
import { Segments, type LinePosition } from './segments.js';

/** Builds of one name whose durations make its expected duration. */
const EXPECTATION_BUILDS = 9;
/** Records of finished builds that stay in memory. */
const RECENT_BUILDS = 64;
/** Names whose durations are remembered. */
const MAX_NAMES = 4_096;
/** Part of `maxBytes` that one log may take. */
const LOG_SHARE = 1 / 4;
/** Records that are read at the same time for a list: each takes a descriptor. */
const READS_AT_ONCE = 16;
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

/** A build that goes on. */
interface OpenBuild {
  record: BuildRecord;
  lines: number;
  bytes: number;
  /** Settles when the record of its end is on disk. */
  finished?: Promise<void>;
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
  /** Only builds with a smaller id. */
  readonly before?: number;
  readonly limit?: number;
}

/**
 * Builds that there have been, on disk: a line for each state that is worth keeping, of which the last one counts, and
 * a file for each log that is not short. Bounded by number, age and bytes. A failing disk costs history, never a build.
 */
export class BuildHistory {
  readonly #options: HistoryOptions;
  #limits: HistoryLimits;
  readonly #segments: Segments;
  readonly #entries = new Map<number, Entry>();
  /** Entries by the segment that they lie in. */
  readonly #entriesIn = new Map<number, number>();
  /** Durations of the last successful builds by name, newest last. */
  readonly #durations = new Map<string, number[]>();
  #logBytes = 0;
  readonly #open = new Map<number, OpenBuild>();
  /** The last that have ended: what is amended is there. */
  readonly #recent = new Map<number, StoredRecord>();
  readonly #logs: BuildLogs;
  readonly #writer: RecordWriter;
  #nextId = 1;
  #pruning: Promise<void> = Promise.resolve();
  #amending: Promise<void> = Promise.resolve();

  private constructor(options: HistoryOptions) {
    this.#options = options;
    this.#limits = options.limits;
    this.#segments = new Segments(options.dir, 'builds');
    this.#logs = new BuildLogs(join(options.dir, 'logs'), options.clock);
    this.#writer = new RecordWriter({
      ...{ segments: this.#segments, dir: options.dir, log: options.log },
      onLate: (record, position) => {
        this.#index(record, position);
      },
    });
  }

  /** Reads back what an earlier supervisor has kept. Lines that cannot be read are left out, and counted in the log. */
  static async open(options: HistoryOptions): Promise<BuildHistory> {
    const history = new BuildHistory(options);
    await history.#logs.makeDir();
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
      this.#open.set(record.id, { record, lines: record.log.lines, bytes: record.log.bytes });
      // The supervisor that wrote the line ended before the build did.
      await this.finish(record.id, {
        result: 'Interrupted',
        succeeded: false,
        error: 'Drover ended before it recorded how the build ended',
      });
    }
    await this.#logs.removeStray((id) => this.#entries.has(id));
    await this.#prune();
  }

  /** Changes the limits. They are applied when the next build ends. */
  configure(limits: HistoryLimits): void {
    this.#limits = limits;
  }

  #index(record: BuildRecord, position: LinePosition): void {
    const { id, name, times, succeeded, log } = record;
    const durationMs =
      succeeded === true && times.started !== null && times.ended !== null ? times.ended - times.started : -1;
    // Negative if the clock was set back meanwhile.
    if (durationMs >= 0 && !this.#entries.has(id)) {
      this.#noteDuration(name, durationMs);
    }
    this.#forget(id);
    this.#entries.set(id, {
      ...{ id, name, asked: times.asked, succeeded: succeeded === true },
      ...{ storedBytes: log.storedBytes, position },
    });
    this.#logBytes += log.storedBytes;
    this.#entriesIn.set(position.segment, (this.#entriesIn.get(position.segment) ?? 0) + 1);
  }

  #noteDuration(name: string, durationMs: number): void {
    const durations = this.#durations.get(name) ?? [];
    this.#durations.delete(name);
    this.#durations.set(name, [...durations, durationMs].slice(-EXPECTATION_BUILDS));
    const [oldest] = this.#durations.keys();
    if (this.#durations.size > MAX_NAMES && oldest !== undefined) this.#durations.delete(oldest);
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
  begin({
    derivation,
    name,
    system,
    client,
  }: Pick<BuildRecord, 'derivation' | 'name' | 'system' | 'client'>): number {
    const id = this.#nextId++;
    const record: BuildRecord = {
      id,
      derivation,
      name,
      system,
      client,
      guest: null,
      generation: null,
      times: {
        asked: this.#options.clock.wallNow(),
        leased: null,
        provisioned: null,
        started: null,
        ended: null,
        fetched: null,
      },
      result: null,
      succeeded: null,
      error: null,
      replays: [],
      inputs: { shared: 0, sharedBytes: 0, copied: 0, copiedBytes: 0 },
      relayedBytes: 0,
      usage: null,
      log: { lines: 0, bytes: 0, storedBytes: 0 },
    };
    this.#open.set(id, { record, lines: 0, bytes: 0 });
    this.#logs.begin(id);
    void this.#writer.begin(record);
    return id;
  }

  /** Changes the record of a build that goes on; nothing for one that does not. */
  update(id: number, change: (record: BuildRecord) => Partial<BuildRecord>): void {
    const open = this.#open.get(id);
    if (open !== undefined) open.record = { ...open.record, ...change(open.record) };
  }

  /**
   * Adds a line to the log of a build that goes on, or a part of one.
   * @param isEnd false if more of the line follows
   * @returns a promise to wait for before more is added, if the disk is behind
   */
  addLine(id: number, part: string, isEnd = true): Promise<void> | undefined {
    const open = this.#open.get(id);
    if (open === undefined) return undefined;
    const text = isEnd ? `${part}\n` : part;
    if (isEnd) open.lines += 1;
    open.bytes += nixStringLength(text);
    const { logs, maxBytes } = this.#limits;
    return logs === 'none' ? undefined : this.#logs.add(id, text, maxBytes * LOG_SHARE);
  }

  /** Ends a build's record. Settles when it is on disk, or cannot be. */
  async finish(
    id: number,
    outcome: Pick<BuildRecord, 'succeeded' | 'error'> & { readonly result: string },
  ): Promise<void> {
    const open = this.#open.get(id);
    if (open === undefined || open.finished !== undefined) return;
    const ended = this.#options.clock.wallNow();
    const error = outcome.error?.slice(0, MAX_ERROR_CHARACTERS) ?? null;
    this.update(id, ({ times }) => ({ ...outcome, error, times: { ...times, ended } }));
    open.finished = this.#finish(id, open);
    await open.finished;
    this.#pruning = this.#pruning.then(() => this.#prune());
    await this.#pruning;
  }

  async #finish(id: number, open: OpenBuild): Promise<void> {
    const keep = this.#limits.logs === 'all' || open.record.succeeded !== true;
    const { storedBytes, text } = await this.#logs.end(id, keep);
    const record: StoredRecord = { ...withLog(open, storedBytes), text };
    const position = await this.#writer.end(record);
    this.#open.delete(id);
    if (position === undefined) {
      // Without its record it could not be found.
      await this.#logs.remove(id);
      return;
    }
    this.#index(record, position);
    this.#recent.set(id, record);
    const [oldest] = this.#recent.keys();
    if (this.#recent.size > RECENT_BUILDS && oldest !== undefined) this.#recent.delete(oldest);
  }

  /** Adds what is known only after the end: that the client has fetched the outputs. */
  async amend(id: number, change: (record: BuildRecord) => Partial<BuildRecord>): Promise<void> {
    this.#amending = this.#amending.then(() => this.#amend(id, change));
    await this.#amending;
  }

  async #amend(id: number, change: (record: BuildRecord) => Partial<BuildRecord>): Promise<void> {
    await this.#open.get(id)?.finished;
    if (this.#open.has(id)) {
      this.update(id, change);
      return;
    }
    const waiting = this.#writer.waiting.get(id);
    const record = waiting ?? this.#recent.get(id) ?? (await this.#stored(id));
    if (record === undefined) return;
    const amended: StoredRecord = { ...record, ...change(record) };
    const position = await this.#writer.end(amended);
    if (position === undefined || !(this.#entries.has(id) || waiting !== undefined)) return;
    this.#index(amended, position);
    if (this.#recent.has(id)) this.#recent.set(id, amended);
  }

  /** @returns undefined for a build that is not known, or not any more */
  async get(id: number): Promise<BuildRecord | undefined> {
    const open = this.#open.get(id);
    if (open !== undefined) return withLog(open, 0);
    const record = await this.#stored(id);
    return record === undefined ? undefined : withoutText(record);
  }

  /** The record of a build that has ended. */
  async #stored(id: number): Promise<StoredRecord | undefined> {
    const waiting = this.#writer.waiting.get(id);
    if (waiting !== undefined) return waiting;
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    return decodeRecord(await this.#segments.read(entry.position).catch(() => ''));
  }

  /** @returns undefined for a build that does not go on */
  running(id: number): BuildRecord | undefined {
    return this.#open.get(id)?.record;
  }

  /** The newest builds first, those that go on included. */
  async list(query: HistoryQuery = {}): Promise<readonly BuildRecord[]> {
    const { failed, since, names, before = Infinity, limit = 100 } = query;
    const fits = (name: string, asked: number, succeeded: boolean | null): boolean =>
      (failed !== true || succeeded === false) &&
      (since === undefined || asked >= since) &&
      (names === undefined || names.length === 0 || names.some((part) => name.includes(part)));
    const inMemory = [
      ...[...this.#open.values()].map(({ record }) => record),
      ...this.#writer.waiting.values(),
    ];
    const ids = new Set(
      [
        ...inMemory.filter(({ name, times, succeeded }) => fits(name, times.asked, succeeded)),
        ...[...this.#entries.values()].filter(({ name, asked, succeeded }) => fits(name, asked, succeeded)),
      ].map(({ id }) => id),
    );
    const newest = [...ids]
      .filter((id) => id < before)
      .sort((a, b) => b - a)
      .slice(0, limit);
    const records: BuildRecord[] = [];
    for (let at = 0; at < newest.length; at += READS_AT_ONCE) {
      const some = await Promise.all(newest.slice(at, at + READS_AT_ONCE).map((id) => this.get(id)));
      records.push(...some.filter((record) => record !== undefined));
    }
    return records;
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

  /** Yields the log of a build, as far as there is one. */
  async *readLog(id: number, options?: ReadLogOptions): AsyncGenerator<Buffer, void, undefined> {
    let hasFile = false;
    for await (const part of this.#logs.read(id, options)) {
      hasFile = true;
      yield part;
    }
    if (hasFile || options?.signal?.aborted === true) return;
    await this.#open.get(id)?.finished;
    const text = (await this.#stored(id))?.text;
    if (text !== undefined) yield encodeNixString(text);
  }

  /** Settles when everything so far is on disk. */
  async close(): Promise<void> {
    await this.#logs.flush();
    for (const { finished } of this.#open.values()) await finished;
    await this.#amending;
    await this.#pruning;
    await this.#writer.close();
    await this.#segments.close();
  }

  async #prune(): Promise<void> {
    const limits = this.#limits;
    const now = this.#options.clock.wallNow();
    const oldest = now - limits.keepMs;
    for (const { id, asked, storedBytes } of this.#entries.values()) {
      const tooMany = this.#entries.size > limits.maxBuilds;
      const tooLarge = this.#logBytes + this.#segments.bytes > limits.maxBytes;
      if (asked >= oldest && !tooMany && !tooLarge) {
        // The clock was ahead: what follows may be older.
        if (asked > now) continue;
        break;
      }
      this.#forget(id);
      if (storedBytes > 0) await this.#logs.remove(id);
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
}

function withoutText(stored: StoredRecord): BuildRecord {
  const record: { -readonly [key in keyof StoredRecord]: StoredRecord[key] } = { ...stored };
  delete record.text;
  return record;
}

/** The record with what is known of the log. */
function withLog({ record, lines, bytes }: OpenBuild, storedBytes: number): BuildRecord {
  return { ...record, log: { lines, bytes, storedBytes } };
}
