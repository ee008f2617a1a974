import { createReadStream } from 'node:fs';
import { appendFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { constants, createGunzip, gzip } from 'node:zlib';

import type { Clock } from '../lib/clock.js';

/** Text that is compressed in one piece, in bytes. */
const CHUNK_BYTES = 64 * 1024;
/** Text that may wait for the disk before the source must pause, in bytes. */
const HIGH_WATER_BYTES = 1024 * 1024;
/** Text waits no longer than this to be written, in milliseconds: what a crash can take. */
const FLUSH_MS = 1_000;

const compress = promisify<Uint8Array, { level: number }, Buffer>(gzip);

/**
 * Writes one build's log to a file of concatenated gzip members (RFC 1952, section 2.2), each complete in itself, so a
 * crash costs at most the text that was still waiting. No descriptor is held open between writes.
 */
export class BuildLogWriter {
  readonly #path: string;
  readonly #clock: Clock;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #writing: Promise<void> | undefined;
  #cancelFlush: (() => void) | undefined;
  /** A write has failed; what comes from then on is dropped. */
  #failed = false;

  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  /** @returns a promise to wait for where the disk is slower than the log, so that memory stays bounded */
  write(text: string): Promise<void> | undefined {
    if (this.#failed) return undefined;
    const bytes = Buffer.from(text);
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    if (this.#pendingBytes >= CHUNK_BYTES) void this.#startWriting();
    else this.#cancelFlush ??= this.#clock.after(FLUSH_MS, () => void this.#startWriting());
    return this.#pendingBytes >= HIGH_WATER_BYTES ? this.#startWriting() : undefined;
  }

  /** Settles when everything so far is in the file, or has failed. */
  async flush(): Promise<void> {
    while (this.#pendingBytes > 0 || this.#writing !== undefined) await this.#startWriting();
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
      try {
        for (let at = 0; at < text.length; at += CHUNK_BYTES) {
          const member = await compress(text.subarray(at, at + CHUNK_BYTES), { level: 1 });
          await appendFile(this.#path, member, { mode: 0o600 });
        }
      } catch {
        // A full disk costs the log, never the build.
        this.#failed = true;
        this.#pending = [];
        this.#pendingBytes = 0;
      }
    }
  }
}

/**
 * Reads a log back, piece by piece; what a crash has cut off at the end is left out. Nothing for a file that is gone.
 */
export async function* readBuildLog(path: string): AsyncGenerator<Buffer> {
  const gunzip = createGunzip({ finishFlush: constants.Z_SYNC_FLUSH });
  const source = createReadStream(path);
  source.on('error', () => gunzip.end());
  source.pipe(gunzip);
  try {
    for await (const chunk of gunzip) yield chunk as Buffer;
  } catch {
    // Bytes that are no gzip: the part before them has been given.
  } finally {
    source.destroy();
  }
}
