import { createReadStream } from 'node:fs';
import { appendFile, stat, truncate, unlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { constants, createGunzip, gzip, gzipSync } from 'node:zlib';

import type { CancelTimer, Clock } from '../lib/clock.js';
import { errorCode, errorMessage } from '../lib/errors.js';
import { decodeNixString, encodeNixString } from '../protocol/nix-string.js';

/** Text that is compressed in one piece, in bytes. */
const CHUNK_BYTES = 64 * 1024;
/** Text that may wait for the disk before the source must pause, in bytes. */
const HIGH_WATER_BYTES = 1024 * 1024;
/** Text waits no longer than this to be written, in milliseconds: what a crash can take. */
const FLUSH_MS = 1_000;
/** The same while a reader follows the log. */
const FOLLOWED_FLUSH_MS = 100;

/** Text that is compressed at once, in bytes: to hand it to another thread costs more. */
const SMALL_BYTES = 8 * 1024;

const NOTHING = Buffer.alloc(0);
const NOTE_FULL = '\ndrover: the rest of this log was not kept; see history.maxBytes\n';

function noteOfLoss({ bytes, reason }: { readonly bytes: number; readonly reason: string }): string {
  return `\ndrover: ${bytes} bytes of this log are missing here: ${reason}\n`;
}

const LEVEL = { level: 1 };
/** Less memory to prepare takes a quarter of the time, and costs small text nothing. */
const SMALL = { ...LEVEL, memLevel: 5, windowBits: 12 };
const compressLarge = promisify<Uint8Array, { level: number }, Buffer>(gzip);

async function compress(text: Uint8Array): Promise<Buffer> {
  return text.length <= SMALL_BYTES ? gzipSync(text, SMALL) : await compressLarge(text, LEVEL);
}

export interface BuildLogOptions {
  readonly path: string;
  readonly clock: Clock;
  /** Size at which the file is closed; the rest of the log is dropped. */
  readonly maxFileBytes: number;
  /** More is in the file. */
  readonly onWritten: () => void;
}

/**
 * Writes one build's log to a file of concatenated gzip members (RFC 1952, section 2.2), each complete in itself, so a
 * crash costs at most the text that was still waiting. No descriptor is held open between writes. Text that a full disk
 * does not take is lost, which the next text that it takes says.
 */
export class BuildLogWriter {
  readonly #options: BuildLogOptions;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #writing: Promise<void> | undefined;
  #cancelFlush: CancelTimer | undefined;
  #flushMs = FLUSH_MS;
  #fileBytes = 0;
  /** Nothing more is written: the file is full, or ends in the middle of a member. */
  #closed = false;
  /** Bytes of text that were lost since the last that was written, and why. */
  #lost: { readonly bytes: number; readonly reason: string } | undefined;

  constructor(options: BuildLogOptions) {
    this.#options = options;
  }

  /** Size of the file, up to the end of its last complete member. */
  get fileBytes(): number {
    return this.#fileBytes;
  }

  /** @returns a promise to wait for where the disk is slower than the log, so that memory stays bounded */
  write(text: string): Promise<void> | undefined {
    if (this.#closed) return undefined;
    const bytes = encodeNixString(text);
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    if (this.#pendingBytes >= CHUNK_BYTES) void this.#startWriting();
    else this.#cancelFlush ??= this.#options.clock.after(this.#flushMs, () => void this.#startWriting());
    return this.#pendingBytes >= HIGH_WATER_BYTES ? this.#startWriting() : undefined;
  }

  /** Writes text sooner from now on. */
  hurry(): void {
    this.#flushMs = FOLLOWED_FLUSH_MS;
  }

  /** Settles when everything so far is in the file, or has failed. */
  async flush(): Promise<void> {
    while (this.#pendingBytes > 0 || this.#writing !== undefined) await this.#startWriting();
  }

  /** Takes the whole log back, if no part of it has been written and it is at most that long, in bytes. */
  takeBack(maxBytes: number): string | undefined {
    const isWhole = this.#fileBytes === 0 && this.#writing === undefined && this.#lost === undefined;
    if (!isWhole || this.#closed || this.#pendingBytes > maxBytes) return undefined;
    this.#cancelFlush?.();
    this.#cancelFlush = undefined;
    const text = decodeNixString(Buffer.concat(this.#pending));
    this.#pending = [];
    this.#pendingBytes = 0;
    return text;
  }

  /** Settles when the whole log is in the file, or a note of what is missing at its end. */
  async end(): Promise<void> {
    await this.flush();
    if (this.#lost !== undefined && !this.#closed) await this.#writeMember(NOTHING);
  }

  #startWriting(): Promise<void> {
    this.#cancelFlush?.();
    this.#cancelFlush = undefined;
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  async #writeAll(): Promise<void> {
    while (this.#pendingBytes > 0) {
      const text = Buffer.concat(this.#pending);
      this.#pending = [];
      this.#pendingBytes = 0;
      for (let at = 0; at < text.length && !this.#closed; at += CHUNK_BYTES) {
        await this.#writeMember(text.subarray(at, at + CHUNK_BYTES));
      }
    }
    if (!this.#closed) return;
    this.#pending = [];
    this.#pendingBytes = 0;
  }

  async #writeMember(text: Uint8Array): Promise<void> {
    const { path, maxFileBytes, onWritten } = this.#options;
    const full = this.#fileBytes >= maxFileBytes;
    if (full) this.#closed = true;
    const note = full ? NOTE_FULL : this.#lost === undefined ? '' : noteOfLoss(this.#lost);
    try {
      const member = await compress(Buffer.concat([Buffer.from(note), full ? NOTHING : text]));
      await appendFile(path, member, { mode: 0o600 });
      this.#fileBytes += member.length;
    } catch (error) {
      // A full disk costs a part of the log, never the build.
      this.#lost = { bytes: (this.#lost?.bytes ?? 0) + text.length, reason: errorMessage(error) };
      await this.#cutBack();
      return;
    }
    this.#lost = undefined;
    onWritten();
  }

  /** Removes what was written of a member. */
  async #cutBack(): Promise<void> {
    const { path } = this.#options;
    try {
      if (this.#fileBytes > 0) await truncate(path, this.#fileBytes);
      else await unlink(path);
    } catch (error) {
      this.#closed ||= errorCode(error) !== 'ENOENT';
    }
  }
}

/**
 * Reads a log back, piece by piece; what a crash has cut off at the end is left out. Nothing for a file that is gone.
 * @param start where a member begins
 * @param end where a member ends; default: the end of the file
 */
export async function* readBuildLog(
  path: string,
  start = 0,
  end?: number,
): AsyncGenerator<Buffer, void, undefined> {
  if (start >= (end ?? Infinity)) return;
  const gunzip = createGunzip({ finishFlush: constants.Z_SYNC_FLUSH });
  const source = createReadStream(path, { start, ...(end === undefined ? {} : { end: end - 1 }) });
  source.on('error', () => gunzip.end());
  source.pipe(gunzip);
  try {
    for await (const chunk of gunzip) yield chunk as Buffer;
  } catch {
    // Bytes that are no gzip: the part before them has been given.
  } finally {
    source.destroy();
    gunzip.destroy();
  }
}

/** The beginning of every member that this program writes (RFC 1952, 2.3: deflate, no flags, no time). */
const MEMBER_HEADER = Buffer.from('1f8b0800000000', 'hex');

/**
 * Finds where to start in a log for the last `textBytes` of its text, or a little more: each member ends with the size
 * of its text. A build can write bytes that look like the start of a member; then less of its own log is found.
 * @param end where a member ends
 */
export async function startOfLast(path: string, end: number, textBytes: number): Promise<number> {
  // Text that cannot be compressed takes a little more than its size.
  const first = Math.max(0, end - textBytes - 3 * CHUNK_BYTES);
  const bytes = await readPart(path, first, end);
  let start = bytes.length;
  for (let text = 0; text < textBytes;) {
    const header = start === 0 ? -1 : bytes.lastIndexOf(MEMBER_HEADER, start - 1);
    if (header < 0) break;
    text += start >= 4 ? bytes.readUInt32LE(start - 4) : textBytes;
    start = header;
  }
  return first + start;
}

/** Nothing for a file that is gone. */
async function readPart(path: string, start: number, end: number): Promise<Buffer> {
  if (end <= start) return Buffer.alloc(0);
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of createReadStream(path, { start, end: end - 1 })) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  } catch {
    return Buffer.alloc(0);
  }
}

/** Size of a file in bytes; 0 if it does not exist. */
export async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}
