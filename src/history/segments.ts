import { open, readdir, stat, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

/** Size at which a segment is closed and the next one begun, in bytes. */
const SEGMENT_BYTES = 1024 * 1024;
/** Longest line that is read back, in bytes; longer ones are skipped. */
const MAX_LINE_BYTES = 256 * 1024;
const READ_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/** Where a line lies. */
export interface LinePosition {
  readonly segment: number;
  readonly offset: number;
  readonly bytes: number;
}

interface Pending {
  readonly line: string;
  readonly resolve: (position: LinePosition) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Lines in a directory of append-only files, `<prefix>-<number>.jsonl`, so that old ones can be removed by the file.
 *
 * INVARIANT: a file is only ever appended to, by one process; lines that did not fit on the disk are cut off again. A
 * line that a crash has cut off is closed with a newline by the next append, so it can spoil no other line.
 */
export class Segments {
  readonly #dir: string;
  readonly #prefix: string;
  readonly #sizes = new Map<number, number>();
  #current = 1;
  /** The current file may end in the middle of a line. */
  #torn = false;
  /** The current segment, while lines are appended. */
  #file: FileHandle | undefined;
  #queue: Pending[] = [];
  #appending: Promise<void> | undefined;

  constructor(dir: string, prefix: string) {
    this.#dir = dir;
    this.#prefix = prefix;
  }

  /** Bytes of all segments. */
  get bytes(): number {
    return [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
  }

  /** Number of the segment that is appended to. */
  get current(): number {
    return this.#current;
  }

  get all(): readonly number[] {
    return [...this.#sizes.keys()];
  }

  /** Reads every line, oldest first. Gives way to other work between chunks. */
  async *load(): AsyncGenerator<{ readonly line: string; readonly position: LinePosition }> {
    for (const segment of await this.#list()) {
      this.#sizes.set(segment, (await stat(this.#path(segment))).size);
      this.#current = segment;
      yield* this.#lines(segment);
    }
  }

  async #list(): Promise<number[]> {
    const pattern = new RegExp(`^${this.#prefix}-(\\d{1,12})\\.jsonl$`);
    const numbers = (await readdir(this.#dir)).flatMap((name) => {
      const digits = pattern.exec(name)?.[1];
      return digits === undefined ? [] : [Number(digits)];
    });
    return numbers.sort((a, b) => a - b);
  }

  async *#lines(segment: number): AsyncGenerator<{ readonly line: string; readonly position: LinePosition }> {
    await using file = await open(this.#path(segment));
    let pending = Buffer.alloc(0);
    let offset = 0;
    let skipping = false;
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES);
      if (bytesRead === 0) break;
      pending = Buffer.concat([pending, buffer.subarray(0, bytesRead)]);
      for (let end = pending.indexOf(NEWLINE); end >= 0; end = pending.indexOf(NEWLINE)) {
        const bytes = end + 1;
        if (!skipping) yield { line: pending.toString('utf8', 0, end), position: { segment, offset, bytes } };
        skipping = false;
        offset += bytes;
        pending = pending.subarray(bytes);
      }
      if (pending.length > MAX_LINE_BYTES) {
        offset += pending.length;
        pending = Buffer.alloc(0);
        skipping = true;
      }
    }
    this.#torn = pending.length > 0 || skipping;
  }

  /** Appends a line, which ends with a newline. @throws the file system's error; nothing of it counts then */
  async append(line: string): Promise<LinePosition> {
    return await new Promise((resolve, reject) => {
      this.#queue.push({ line, resolve, reject });
      this.#appending ??= this.#drain().finally(() => {
        this.#appending = undefined;
      });
    });
  }

  /** Lines that arrive during a write are written together. */
  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0);
      try {
        const positions = await this.#write(batch.map(({ line }) => line));
        batch.forEach(({ resolve }, index) => {
          resolve(positions[index] ?? { segment: this.#current, offset: 0, bytes: 0 });
        });
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
  }

  async #write(lines: readonly string[]): Promise<LinePosition[]> {
    if ((this.#sizes.get(this.#current) ?? 0) >= SEGMENT_BYTES) {
      await this.#closeFile();
      this.#current += 1;
      this.#torn = false;
    }
    const segment = this.#current;
    const file = (this.#file ??= await this.#open());
    let offset = this.#sizes.get(segment) ?? 0;
    const separator = this.#torn ? '\n' : '';
    try {
      await file.appendFile(separator + lines.join(''));
    } catch (error) {
      // No part of a line stays, if the file can be cut.
      await file.truncate(offset).catch(() => (this.#torn = true));
      await this.#closeFile();
      throw error;
    }
    this.#torn = false;
    offset += separator.length;
    const positions = lines.map((line) => {
      const position = { segment, offset, bytes: Buffer.byteLength(line) };
      offset += position.bytes;
      return position;
    });
    this.#sizes.set(segment, offset);
    return positions;
  }

  async #open(): Promise<FileHandle> {
    const file = await open(this.#path(this.#current), 'a', 0o600);
    this.#sizes.set(this.#current, (await file.stat()).size);
    return file;
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async read({ segment, offset, bytes }: LinePosition): Promise<string> {
    await using file = await open(this.#path(segment));
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, offset);
    return buffer.toString('utf8', 0, bytesRead);
  }

  /** Removes a segment other than the current one. */
  async remove(segment: number): Promise<void> {
    if (segment === this.#current) return;
    this.#sizes.delete(segment);
    await unlink(this.#path(segment)).catch(() => undefined);
  }

  /** Settles when all lines so far have been written, and closes the file until the next one. */
  async close(): Promise<void> {
    await this.#appending;
    await this.#closeFile();
  }

  #path(segment: number): string {
    return join(this.#dir, `${this.#prefix}-${String(segment).padStart(6, '0')}.jsonl`);
  }
}
