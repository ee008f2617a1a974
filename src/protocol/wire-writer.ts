import { encodeNixString } from './nix-string.js';
import { malformed } from './protocol-error.js';
import { paddingOf } from './wire.js';

const INITIAL_BYTES = 256;

/** Writes the protocol's primitives into one growing buffer. Methods return the writer, so that they chain. */
export class WireWriter {
  #buffer = Buffer.allocUnsafe(INITIAL_BYTES);
  #length = 0;

  /**
   * An unsigned 64-bit number.
   * @throws ProtocolError `PROTOCOL_MALFORMED` for a negative, fractional or inexact one.
   */
  u64(value: number | bigint): this {
    if (typeof value === 'number' && !Number.isSafeInteger(value)) throw notANumber(value);
    const wide = BigInt(value);
    if (wide < 0n || wide > 0xffff_ffff_ffff_ffffn) throw notANumber(value);
    this.#reserve(8);
    this.#buffer.writeBigUInt64LE(wide, this.#length);
    this.#length += 8;
    return this;
  }

  /** 1 or 0, as a number. */
  bool(value: boolean): this {
    return this.u64(value ? 1 : 0);
  }

  /** A length, the bytes, and zeroes up to a multiple of 8. */
  bytes(value: Uint8Array): this {
    this.u64(value.length).raw(value);
    const padding = paddingOf(value.length);
    this.#reserve(padding);
    this.#buffer.fill(0, this.#length, this.#length + padding);
    this.#length += padding;
    return this;
  }

  /** A string: see `nix-string.ts` for text that is not UTF-8 on the wire. */
  string(value: string): this {
    return this.bytes(encodeNixString(value));
  }

  /** A count and the strings, in the order given. Nix sorts its sets by bytes; do so where it matters. */
  strings(values: Iterable<string>): this {
    return this.list([...values], (value) => this.string(value));
  }

  /** A count, and `write` for each item. */
  list<T>(values: readonly T[], write: (value: T) => unknown): this {
    this.u64(values.length);
    for (const value of values) write(value);
    return this;
  }

  /** Bytes unchanged, without a length: a value that is encoded already. */
  raw(value: Uint8Array): this {
    this.#reserve(value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
    return this;
  }

  /** The written bytes. Do not use the writer afterwards: the result is a view of its buffer. */
  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

function notANumber(value: number | bigint): Error {
  return malformed('Only whole numbers from 0 to 2^64 - 1 can be sent', { value: String(value) });
}
