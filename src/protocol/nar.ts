import { malformed, ProtocolError } from './protocol-error.js';
import { paddingOf } from './wire.js';

/** Directories inside each other. Nix's own parser gives up at as many (CVE-2026-44028). */
export const MAX_NAR_DEPTH = 64;
/** Bytes of a name or of a link's target. Linux allows 255 and 4095. */
const MAX_TEXT_BYTES = 4096;

/** Some tokens of a NAR, which is a sequence of strings as the worker protocol has them; a character for each byte. */
function tokens(...words: string[]): string {
  return words
    .map((word) => `${String.fromCharCode(word.length)}${zeroes(7)}${word}${zeroes(paddingOf(word.length))}`)
    .join('');
}

function zeroes(count: number): string {
  return '\0'.repeat(count);
}

/** The part after the tokens of an alternative. */
type Next = 'contents' | 'target' | 'name' | 'directory' | 'up' | 'end';

interface Alternative {
  readonly tokens: string;
  readonly next: Next;
}

/** Tokens that may come next: no alternative begins another one, the most frequent first. */
type Alternatives = readonly Alternative[];

function node(...prefix: string[]): Alternatives {
  const type = [...prefix, '(', 'type'];
  return [
    { tokens: tokens(...type, 'regular', 'contents'), next: 'contents' },
    { tokens: tokens(...type, 'regular', 'executable', '', 'contents'), next: 'contents' },
    { tokens: tokens(...type, 'directory'), next: 'directory' },
    { tokens: tokens(...type, 'symlink', 'target'), next: 'target' },
  ];
}

/** @param closed what ends the node before, and its entry in the directory */
function entry(...closed: string[]): Alternatives {
  return [
    { tokens: tokens(...closed, 'entry', '(', 'name'), next: 'name' },
    { tokens: tokens(...closed, ')'), next: 'up' },
  ];
}

/** The same after a text, by the number of zeroes that fill its last 8 bytes. */
function padded(alternatives: Alternatives): readonly Alternatives[] {
  return Array.from({ length: 8 }, (_, count) =>
    alternatives.map(({ tokens: after, next }) => ({ tokens: zeroes(count) + after, next })),
  );
}

const ROOT = node('nix-archive-1');
const FIRST_ENTRY = entry();
const AFTER_DIRECTORY = entry(')');
const AFTER_NAME = padded(node('node'));
const AFTER_LEAF = padded(entry(')', ')'));
const AFTER_ROOT = padded([{ tokens: tokens(')'), next: 'end' }]);

/**
 * Finds the end of a NAR (`archive.cc` in Nix) in a stream, without keeping any of it. Accepts what Nix
 * writes, and nothing else that Nix would read, so the client finds the same end. Names are left to the
 * client.
 */
export class NarParser {
  #alternatives: Alternatives = ROOT;
  /** Bytes that fit the alternatives so far. */
  #matched = 0;
  #reading: 'tokens' | 'length' | 'text' = 'tokens';
  #text: 'contents' | 'target' | 'name' = 'contents';
  /** Length of the text, and how many of its 8 bytes have come. */
  #length = 0;
  #lengthBytes = 0;
  /** Bytes of the text that are still to come. */
  #left = 0;
  /** Directories that are open. */
  #depth = 0;
  #ended = false;

  /** The whole NAR has come. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Returns how many bytes of the chunk belong to the NAR: all, unless it ends among them.
   * @throws ProtocolError `PROTOCOL_MALFORMED`, `PROTOCOL_LIMIT`
   */
  push(chunk: Uint8Array): number {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const end = bytes.length;
    let at = 0;
    while (at < end && !this.#ended) {
      if (this.#reading === 'tokens') {
        at = this.#readTokens(bytes, at);
      } else if (this.#reading === 'length') {
        at = this.#readLength(bytes, at);
      } else {
        const count = Math.min(this.#left, end - at);
        this.#left -= count;
        at += count;
        if (this.#left === 0) this.#endText();
      }
    }
    return at;
  }

  #readTokens(bytes: Buffer, at: number): number {
    const from = this.#matched;
    for (const { tokens: expected, next } of this.#alternatives) {
      const count = Math.min(expected.length - from, bytes.length - at);
      // As text: of all ways to compare some bytes, V8 is fastest at this one.
      if (bytes.toString('latin1', at, at + count) !== expected.slice(from, from + count)) continue;
      if (from + count === expected.length) this.#enter(next);
      else this.#narrow(expected.slice(0, from + count));
      return at + count;
    }
    throw malformed('This is not a NAR as Nix writes it');
  }

  /** Only those remain that begin with what has come. */
  #narrow(matched: string): void {
    this.#alternatives = this.#alternatives.filter(({ tokens: expected }) => expected.startsWith(matched));
    this.#matched = matched.length;
  }

  #enter(next: Next): void {
    if (next === 'end') {
      this.#ended = true;
    } else if (next === 'directory') {
      this.#depth += 1;
      if (this.#depth > MAX_NAR_DEPTH) {
        throw new ProtocolError(
          'PROTOCOL_LIMIT',
          `A NAR has more than ${MAX_NAR_DEPTH} directories inside each other`,
        );
      }
      this.#expect(FIRST_ENTRY);
    } else if (next === 'up') {
      this.#depth -= 1;
      if (this.#depth === 0) this.#ended = true;
      else this.#expect(AFTER_DIRECTORY);
    } else {
      this.#text = next;
      this.#reading = 'length';
      this.#length = 0;
      this.#lengthBytes = 0;
    }
  }

  #expect(alternatives: Alternatives): void {
    this.#alternatives = alternatives;
    this.#matched = 0;
    this.#reading = 'tokens';
  }

  #readLength(bytes: Buffer, from: number): number {
    let at = from;
    if (this.#lengthBytes === 0 && bytes.length - at >= 8) {
      this.#length = bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 0x1_0000_0000;
      at += 8;
    } else {
      for (; at < bytes.length && this.#lengthBytes < 8; at++, this.#lengthBytes++) {
        this.#length += (bytes[at] ?? 0) * 256 ** this.#lengthBytes;
      }
      if (this.#lengthBytes < 8) return at;
    }
    const max = this.#text === 'contents' ? Number.MAX_SAFE_INTEGER : MAX_TEXT_BYTES;
    if (this.#length > max) {
      throw new ProtocolError('PROTOCOL_LIMIT', `A ${this.#text} in a NAR is longer than ${max} bytes`);
    }
    this.#left = this.#length;
    this.#reading = 'text';
    if (this.#left === 0) this.#endText();
    return at;
  }

  #endText(): void {
    const after = this.#text === 'name' ? AFTER_NAME : this.#depth === 0 ? AFTER_ROOT : AFTER_LEAF;
    this.#expect(after[paddingOf(this.#length)] ?? ROOT);
  }
}
