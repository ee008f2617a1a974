import { open, readdir, stat, unlink } from 'node:fs/promises';
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

/**
 * Lines in a directory of append-only files, `<prefix>-<number>.jsonl`, so that old ones can be removed by the file.
 *
 * INVARIANT: a file is only ever appended to, by one process. A line that a crash has cut off is closed with a newline
 * by the next append, so it can spoil no other line.
 */
export class Segments {
  readonly #dir: string;
  readonly #prefix: string;
  readonly #sizes = new Map<number, number>();
  #current = 1;
  /** The current file may end in the middle of a line. */
  #torn = false;
  #appending: Promise<unknown> = Promise.resolve();

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

  /** Appends a line, which ends with a newline. @throws what the file system says; nothing of it counts then */
  async append(line: string): Promise<LinePosition> {
    const appended = this.#appending.then(() => this.#append(line));
    this.#appending = appended.catch(() => undefined);
    return await appended;
  }

  async #append(line: string): Promise<LinePosition> {
    if ((this.#sizes.get(this.#current) ?? 0) >= SEGMENT_BYTES) {
      this.#current += 1;
      this.#torn = false;
    }
    const segment = this.#current;
    const text = this.#torn ? `\n${line}` : line;
    await using file = await open(this.#path(segment), 'a', 0o600);
    const { size } = await file.stat();
    try {
      await file.appendFile(text);
    } catch (error) {
      this.#torn = true;
      throw error;
    } finally {
      this.#sizes.set(segment, (await file.stat()).size);
    }
    const bytes = Buffer.byteLength(line);
    const offset = size + Buffer.byteLength(text) - bytes;
    this.#torn = false;
    return { segment, offset, bytes };
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

  /** Settles when everything that was appended so far has been written. */
  async flush(): Promise<void> {
    await this.#appending;
  }

  #path(segment: number): string {
    return join(this.#dir, `${this.#prefix}-${String(segment).padStart(6, '0')}.jsonl`);
  }
}
