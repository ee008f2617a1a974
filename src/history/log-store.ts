import { mkdir, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '../lib/clock.js';
import { Emitter } from '../lib/emitter.js';
import { formatBuildId, parseBuildId } from '../lib/human.js';
import { BuildLogWriter, startOfLast, readBuildLog, sizeOf } from './build-log.js';

/** Largest log, in bytes, that gets no file: a file would take a block of the disk, and most of the time. */
const INLINE_BYTES = 2 * 1024;

/** Where an ended log is: in a file, in its build's record, or nowhere if it is not wanted. */
export interface StoredLog {
  /** Size of its file; 0 if it has none. */
  readonly storedBytes: number;
  /** The log itself, for the record. */
  readonly text?: string;
}

export interface ReadLogOptions {
  /** Wait for what the build goes on to log, until it has ended. */
  readonly follow?: boolean;
  /** Ends a follower. */
  readonly signal?: AbortSignal;
  /** Only the end of the log: about this many bytes of its text. Default: all of it. */
  readonly lastBytes?: number;
}

/**
 * The logs of builds, each in a file unless it is short. Followers read the file as it grows, at their own pace: one
 * that stops reading costs neither memory nor the build's time.
 */
export class BuildLogs {
  readonly #dir: string;
  readonly #clock: Clock;
  /** Logs that are written, and those that are about to be. */
  readonly #open = new Map<number, BuildLogWriter | undefined>();
  readonly #changes = new Emitter<number>();
  readonly #followers = new Map<number, number>();
  /** Logs to remove when their last follower has read them. */
  readonly #unwanted = new Set<number>();

  constructor(dir: string, clock: Clock) {
    this.#dir = dir;
    this.#clock = clock;
  }

  async makeDir(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
  }

  begin(id: number): void {
    this.#open.set(id, undefined);
  }

  /** @returns a promise to wait for before more is added, if the disk is behind */
  add(id: number, text: string, maxFileBytes: number): Promise<void> | undefined {
    if (!this.#open.has(id)) return undefined;
    let writer = this.#open.get(id);
    if (writer === undefined) {
      writer = new BuildLogWriter({
        ...{ path: this.#path(id), clock: this.#clock, maxFileBytes },
        onWritten: () => {
          this.#changes.emit(id);
        },
      });
      this.#open.set(id, writer);
    }
    if (this.#followers.has(id)) writer.hurry();
    return writer.write(text);
  }

  async end(id: number, keep: boolean): Promise<StoredLog> {
    const writer = this.#open.get(id);
    const written = this.#open.has(id);
    // Followers read the file.
    const text = this.#followers.has(id) ? undefined : writer?.takeBack(INLINE_BYTES);
    if (text === undefined) await writer?.end();
    this.#open.delete(id);
    this.#changes.emit(id);
    if (text !== undefined) return { storedBytes: 0, ...(keep && text !== '' ? { text } : {}) };
    // A log of an earlier supervisor is measured.
    if (keep) return { storedBytes: written ? (writer?.fileBytes ?? 0) : await sizeOf(this.#path(id)) };
    if (writer !== undefined) await this.remove(id);
    return { storedBytes: 0 };
  }

  async remove(id: number): Promise<void> {
    if (this.#followers.has(id)) this.#unwanted.add(id);
    else await unlink(this.#path(id)).catch(() => undefined);
  }

  async removeStray(known: (id: number) => boolean): Promise<void> {
    for (const name of await readdir(this.#dir)) {
      const id = parseBuildId(name.replace(/\.gz$/, ''));
      if (id === undefined || !known(id)) await unlink(join(this.#dir, name)).catch(() => undefined);
    }
  }

  /** Yields the log, as far as there is one. */
  async *read(
    id: number,
    { follow = false, signal, lastBytes }: ReadLogOptions = {},
  ): AsyncGenerator<Buffer, void, undefined> {
    let changed = true;
    let wake = (): void => undefined;
    const off = this.#changes.on((other) => {
      if (other !== id) return;
      changed = true;
      wake();
    });
    const onAbort = (): void => {
      wake();
    };
    signal?.addEventListener('abort', onAbort);
    this.#followers.set(id, (this.#followers.get(id) ?? 0) + 1);
    try {
      await this.#open.get(id)?.flush();
      const begun = await this.#sizeOf(id);
      const start = lastBytes === undefined ? 0 : await startOfLast(this.#path(id), begun, lastBytes);
      for (let at = start; signal?.aborted !== true;) {
        changed = false;
        const open = this.#open.has(id);
        const end = await this.#sizeOf(id);
        yield* readBuildLog(this.#path(id), at, end);
        at = end;
        if (!open || !follow) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (changed || signal?.aborted === true) resolve();
        });
      }
    } finally {
      off();
      signal?.removeEventListener('abort', onAbort);
      await this.#stopFollowing(id);
    }
  }

  /** Bytes of the file that can be read. */
  async #sizeOf(id: number): Promise<number> {
    return this.#open.has(id) ? (this.#open.get(id)?.fileBytes ?? 0) : await sizeOf(this.#path(id));
  }

  async #stopFollowing(id: number): Promise<void> {
    const left = (this.#followers.get(id) ?? 0) - 1;
    if (left > 0) {
      this.#followers.set(id, left);
      return;
    }
    this.#followers.delete(id);
    if (this.#unwanted.delete(id)) await this.remove(id);
  }

  async flush(): Promise<void> {
    await Promise.all([...this.#open.values()].map(async (writer) => writer?.flush()));
  }

  #path(id: number): string {
    return join(this.#dir, `${formatBuildId(id)}.gz`);
  }
}
