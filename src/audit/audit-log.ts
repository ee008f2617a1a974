import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';

import { DroverError, errorMessage } from '../lib/errors.js';
import type { Log } from '../lib/log.js';
import { strictModesFault } from '../lib/strict-modes.js';
import {
  chainLine,
  EMPTY_CHAIN,
  headAfter,
  MAX_RECORD_BYTES,
  type AuditFields,
  type ChainHead,
} from './chain.js';

/** Records kept in memory while the file cannot be written. Builds are refused then, so few can come. */
const MAX_PENDING = 10_000;
/** Characters kept of each text in a record that is too large. */
const MAX_KEPT_CHARACTERS = 1024;
const FILE_MODE = 0o600;
const LINE_FEED = 0x0a;
const HINT = 'Make room, or correct the owner and mode of the file and its directory (audit.file).';

/**
 * A file of JSON lines, chained by hashes, of what was asked of Drover and what came of it.
 *
 * INVARIANT: the file consists of whole records in the chain's order. A record that was written in part, by a crash or
 * on a full disk, is cut off again. While the file cannot be written, records wait in memory, and `requireWritable`
 * throws.
 */
export class AuditLog {
  readonly #path: string;
  readonly #log: Log;
  #file: number;
  #head: ChainHead;
  readonly #pending: { readonly time: Date; readonly fields: AuditFields }[] = [];
  #lost = 0;
  #closed = false;

  private constructor(path: string, log: Log, file: number, head: ChainHead) {
    this.#path = path;
    this.#log = log;
    this.#file = file;
    this.#head = head;
  }

  /**
   * Opens the file, or makes it, and continues its chain.
   * @param path absolute
   * @throws DroverError `AUDIT_UNUSABLE` if it cannot be written, other users could change it, or it holds something
   *   else
   */
  static async open(path: string, log: Log): Promise<AuditLog> {
    try {
      const fault = await strictModesFault(path);
      if (fault !== undefined) throw new Error(fault);
      const file = openFile(path);
      const audit = new AuditLog(path, log, file, continueChain(file));
      log.info({ file: path, records: audit.#head.seq, hash: audit.#head.hash }, 'audit log opened');
      return audit;
    } catch (cause) {
      throw unusable(path, cause);
    }
  }

  /** The last record's place. Kept elsewhere, it shows later that no record was cut off at the end. */
  get head(): ChainHead {
    return this.#head;
  }

  /** Appends a record. Never throws: what cannot be written waits, and after `close` there is nothing to record. */
  record(fields: AuditFields): void {
    if (this.#closed) return;
    if (this.#pending.length < MAX_PENDING) this.#pending.push({ time: new Date(), fields });
    else this.#lost += 1;
    const isFirst = this.#pending.length === 1;
    const error = this.#flush();
    if (error !== undefined && isFirst) {
      this.#log.error(
        { file: this.#path, reason: errorMessage(error) },
        'audit log cannot be written; builds are refused until it can',
      );
    }
  }

  /**
   * Call it before work that must be on record.
   * @throws DroverError `AUDIT_UNUSABLE` while records cannot be written
   */
  requireWritable(): void {
    const error = this.#flush();
    if (error !== undefined) throw unusable(this.#path, error);
  }

  /** Continues in a new file of the same name after the old one was renamed. */
  reopen(): void {
    let file: number;
    try {
      file = openFile(this.#path);
    } catch (error) {
      this.#log.error(
        { file: this.#path, reason: errorMessage(error) },
        'audit log could not be reopened; still writing to the old one',
      );
      return;
    }
    closeSync(this.#file);
    this.#file = file;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#log.info({ file: this.#path, records: this.#head.seq, hash: this.#head.hash }, 'audit log closed');
    closeSync(this.#file);
  }

  /** Writes what waits, in order. @returns why not, if it could not */
  #flush(): unknown {
    for (let next = this.#pending[0]; next !== undefined; next = this.#pending[0]) {
      let { line, head } = chainLine(this.#head, next.time, next.fields);
      if (Buffer.byteLength(line) > MAX_RECORD_BYTES) {
        const short = shortened(next.fields, Buffer.byteLength(line));
        ({ line, head } = chainLine(this.#head, next.time, short));
      }
      try {
        append(this.#file, `${line}\n`);
      } catch (error) {
        return error;
      }
      this.#head = head;
      this.#pending.shift();
      if (this.#lost > 0 && this.#pending.length === 0) {
        const fields = { type: 'lost', records: this.#lost };
        this.#pending.push({ time: new Date(), fields });
        this.#lost = 0;
      }
    }
    return undefined;
  }
}

/** A record that is too large: who and what it is about, but not its lists, whose length the client decides. */
function shortened(fields: AuditFields, tooLarge: number): AuditFields {
  const leftOut: Record<string, number> = {};
  const kept = Object.entries(fields).flatMap(([name, value]: [string, unknown]) => {
    if (Array.isArray(value)) leftOut[name] = value.length;
    else if (typeof value === 'string') return [[name, value.slice(0, MAX_KEPT_CHARACTERS)]];
    else if (typeof value !== 'object' || value === null) return [[name, value]];
    return [];
  });
  return { type: fields.type, ...Object.fromEntries(kept), leftOut, tooLarge } as AuditFields;
}

function openFile(path: string): number {
  const { O_RDWR, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = openSync(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, FILE_MODE);
  if (fstatSync(file).isFile()) return file;
  closeSync(file);
  throw new Error('it is not a regular file');
}

/** All of `text`, or nothing. */
function append(file: number, text: string): void {
  const bytes = Buffer.from(text);
  const { size } = fstatSync(file);
  let written = 0;
  try {
    while (written < bytes.length) written += writeSync(file, bytes, written);
  } catch (error) {
    if (written > 0) ftruncateSync(file, size);
    throw error;
  }
}

/** Cuts off a record that was written in part, and reads where the chain ends. */
function continueChain(file: number): ChainHead {
  const { size } = fstatSync(file);
  const start = Math.max(0, size - 2 * MAX_RECORD_BYTES - 2);
  const tail = Buffer.alloc(size - start);
  for (let read = 0; read < tail.length;) {
    const count = readSync(file, tail, read, tail.length - read, start + read);
    if (count === 0) break;
    read += count;
  }
  const end = tail.lastIndexOf(LINE_FEED);
  if (end < 0) {
    if (tail.length > MAX_RECORD_BYTES)
      throw new Error('it is not an audit log: it has a line of over 1 MiB');
    ftruncateSync(file, 0);
    return EMPTY_CHAIN;
  }
  const begin = end === 0 ? 0 : tail.lastIndexOf(LINE_FEED, end - 1) + 1;
  const head = headAfter(tail.subarray(begin, end));
  if (head === undefined) throw new Error('it is not an audit log: its last line is not a record');
  if (end + 1 < tail.length) ftruncateSync(file, start + end + 1);
  return head;
}

function unusable(path: string, cause: unknown): DroverError {
  const message = `The audit log ${path} cannot be used: ${errorMessage(cause)}`;
  return new DroverError('AUDIT_UNUSABLE', message, { cause, hint: HINT });
}
