import { errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { encodeRecord, type StoredRecord } from './record.js';
import type { LinePosition, Segments } from './segments.js';

/** Records of ended builds that wait for the disk. Beyond that, the oldest are lost. */
const MAX_WAITING = 1_000;

export interface RecordWriterOptions {
  readonly segments: Segments;
  readonly dir: string;
  readonly log: Log;
  /** A record that had to wait is on disk. */
  readonly onLate: (record: StoredRecord, position: LinePosition) => void;
}

/**
 * Writes records of builds. If the disk does not take that of a build's end, it waits in memory and is written after
 * the next record that the disk takes: otherwise the build would look interrupted to the next supervisor.
 */
export class RecordWriter {
  readonly #options: RecordWriterOptions;
  readonly #waiting = new Map<number, StoredRecord>();
  #catchingUp: Promise<void> = Promise.resolve();
  #writable = true;
  #lost = 0;

  constructor(options: RecordWriterOptions) {
    this.#options = options;
  }

  /** Ended builds whose records wait. */
  get waiting(): ReadonlyMap<number, StoredRecord> {
    return this.#waiting;
  }

  /** Writes the record of a build that begins. One that cannot be written is not kept: that of its end will be. */
  async begin(record: StoredRecord): Promise<void> {
    await this.#write(record);
    void this.#catchUp();
  }

  /** Writes the record of a build that has ended. @returns undefined if it waits */
  async end(record: StoredRecord): Promise<LinePosition | undefined> {
    const position = await this.#write(record);
    if (position === undefined) this.#keep(record);
    else this.#waiting.delete(record.id);
    void this.#catchUp();
    return position;
  }

  /** Tries once more to write what waits. */
  async close(): Promise<void> {
    this.#writable = true;
    await this.#catchUp();
    const lost = this.#lost + this.#waiting.size;
    const { dir, log } = this.#options;
    if (lost > 0) log.error({ dir, builds: lost }, 'records of builds are lost: the disk did not take them');
  }

  #keep(record: StoredRecord): void {
    this.#waiting.delete(record.id);
    this.#waiting.set(record.id, record);
    const [oldest] = this.#waiting.keys();
    if (this.#waiting.size <= MAX_WAITING || oldest === undefined) return;
    this.#waiting.delete(oldest);
    this.#lost += 1;
  }

  async #catchUp(): Promise<void> {
    this.#catchingUp = this.#catchingUp.then(async () => {
      for (const [id, record] of this.#waiting) {
        if (!this.#writable) return;
        const position = await this.#write(record);
        // It may have been amended meanwhile.
        if (position === undefined || this.#waiting.get(id) !== record) continue;
        this.#waiting.delete(id);
        this.#options.onLate(record, position);
      }
    });
    await this.#catchingUp;
  }

  async #write(record: StoredRecord): Promise<LinePosition | undefined> {
    const { dir, log, segments } = this.#options;
    try {
      const position = await segments.append(encodeRecord(record));
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
}
