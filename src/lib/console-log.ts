import { createWriteStream, type WriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';

/** Maximum size of a console log, in bytes. The beginning of a guest's output is kept. */
export const MAX_CONSOLE_LOG_BYTES = 4 * 1024 * 1024;
/** Bytes at the end of the output that are kept for error messages. */
const TAIL_BYTES = 4096;

/** A guest's console on the host: a file of bounded size, and the last lines in memory. */
export class ConsoleLog {
  readonly path: string;
  readonly #file: WriteStream;
  #written = 0;
  #tail = Buffer.alloc(0);

  constructor(path: string) {
    this.path = path;
    this.#file = createWriteStream(path, { mode: 0o600 });
    // A full disk must not end the guest: the tail stays in memory.
    this.#file.on('error', () => undefined);
  }

  /** Reads `source` to its end. */
  follow(source: Readable): void {
    source.on('data', (chunk: Buffer) => {
      this.#tail = Buffer.concat([this.#tail, chunk]).subarray(-TAIL_BYTES);
      if (this.#written >= MAX_CONSOLE_LOG_BYTES) return;
      this.#written += chunk.length;
      this.#file.write(chunk);
      if (this.#written >= MAX_CONSOLE_LOG_BYTES)
        this.#file.write(`\n[truncated after ${MAX_CONSOLE_LOG_BYTES} bytes]\n`);
    });
  }

  /** The last lines, for people. */
  tail(lines = 10): string {
    return lastLines(this.#tail, lines);
  }

  close(): void {
    this.#file.end();
  }
}

/** The last lines of a text file, for people; empty if it cannot be read. */
export async function fileTail(path: string, { lines = 10, maxBytes = 4096 } = {}): Promise<string> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    const length = Math.min(size, maxBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return lastLines(buffer.subarray(0, bytesRead), lines);
  } catch {
    return '';
  }
}

/** Terminals end lines with a carriage return, too. */
function lastLines(text: Buffer, lines: number): string {
  return text.toString('utf8').trimEnd().split(/\r*\n/).slice(-lines).join('\n');
}
