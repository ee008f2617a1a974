import { MAX_ITEMS, MAX_MESSAGE_BYTES, MAX_STRING_BYTES } from './limits.js';
import { decodeNixString } from './nix-string.js';
import { malformed, ProtocolError } from './protocol-error.js';
import { count } from '../lib/human.js';

/**
 * A decoder does no IO. It yields how many bytes it needs next (always > 0), is resumed with exactly that
 * many, and returns the value. So it can wait between any two bytes for as long as the peer likes.
 *
 * The bytes that it receives are its own only until it asks for more. It may ask for as much as
 * `MAX_STRING_BYTES` because of a mere claim, so its caller must let the buffer grow with what has arrived
 * (`Feeder` does) and must not allocate the requested size.
 */
export type Decoder<T> = Generator<number, T, Uint8Array>;

/**
 * A decoder that also sends: a yielded `Uint8Array` goes to the peer, in order, and the generator is resumed
 * with an empty array. Every `Decoder` is a `Conversation`.
 */
export type Conversation<T> = Generator<number | Uint8Array, T, Uint8Array>;

const EMPTY = new Uint8Array(0);

/** An unsigned 64-bit little-endian integer: what all numbers of the protocol are. */
export function* u64(): Decoder<bigint> {
  const bytes = yield 8;
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
}

/**
 * A number of at most `max` (default: 2^53 - 1, exact in JavaScript). `readNum` in Nix's serialise.hh.
 * @throws ProtocolError `PROTOCOL_MALFORMED` when it is larger.
 */
export function* num(max: number = Number.MAX_SAFE_INTEGER): Decoder<number> {
  const value = toNumber(yield 8);
  if (value > max) {
    throw malformed(`The number ${value} is too large here: at most ${max}`, { value, max });
  }
  return value;
}

/** An unsigned 32-bit number (`readInt` in Nix's serialise.hh). */
export function u32(): Decoder<number> {
  return num(0xffff_ffff);
}

/** As in Nix, every number but 0 is true. */
export function* bool(): Decoder<boolean> {
  return (yield* u64()) !== 0n;
}

/**
 * A length, that many bytes, and zeroes up to a multiple of 8 (`readString` in Nix's serialise.cc). The
 * result may be a view of the input: copy it to keep it.
 * @throws ProtocolError `PROTOCOL_LIMIT` for a claim of more than `maxBytes`, before any of them is asked
 *   for; `PROTOCOL_MALFORMED` for padding that is not zero.
 */
export function* bytes(maxBytes: number = MAX_STRING_BYTES): Decoder<Uint8Array> {
  const length = lengthOf(yield 8, 'bytes', maxBytes);
  if (length === 0) return EMPTY;
  const padded = yield length + paddingOf(length);
  for (let at = length; at < padded.length; at++) {
    if (padded[at] !== 0) throw malformed('The padding after a string is not zero');
  }
  return padded.subarray(0, length);
}

/** A string of at most `maxBytes` bytes. Bytes that are not UTF-8 survive: see `nix-string.ts`. */
export function* string(maxBytes: number = MAX_STRING_BYTES): Decoder<string> {
  return decodeNixString(yield* bytes(maxBytes));
}

/**
 * A count and that many items: Nix's vectors and sets alike, in the order of the wire.
 * @throws ProtocolError `PROTOCOL_LIMIT` for a claim of more than `maxItems`.
 */
export function* list<T>(item: () => Decoder<T>, maxItems: number = MAX_ITEMS): Decoder<T[]> {
  const count = lengthOf(yield 8, 'items', maxItems);
  const items: T[] = [];
  for (let i = 0; i < count; i++) items.push(yield* item());
  // Without the room to grow, which is more than a short list: thousands of them may be kept.
  return items.slice();
}

/**
 * An object that is still being decoded. Objects of which there can be thousands are made so, and not by a spread: V8
 * gives the result of a spread a hidden class of its own, which takes three times the memory.
 */
export type Mutable<T> = { -readonly [key in keyof T]: T[key] };

/** A list of strings, each of at most `maxBytes` bytes. */
export function strings(
  maxItems: number = MAX_ITEMS,
  maxBytes: number = MAX_STRING_BYTES,
): Decoder<string[]> {
  return list(() => string(maxBytes), maxItems);
}

/**
 * A count and that many pairs of key and value, in the order of the wire.
 * @throws ProtocolError `PROTOCOL_MALFORMED` for a key that comes twice: Nix never writes that, and two readers
 *   could disagree on which one counts.
 */
export function* map<V>(value: () => Decoder<V>, maxItems: number = MAX_ITEMS): Decoder<Map<string, V>> {
  const count = lengthOf(yield 8, 'items', maxItems);
  const entries = new Map<string, V>();
  for (let i = 0; i < count; i++) {
    const key = yield* string();
    if (entries.has(key)) throw malformed('A map has the same key twice', { key });
    entries.set(key, yield* value());
  }
  return entries;
}

/**
 * The same decoder, allowed to ask for `maxBytes` in total.
 * @throws ProtocolError `PROTOCOL_LIMIT` when it asks for more, before the bytes arrive.
 */
export function* bounded<T>(decoder: Decoder<T>, maxBytes: number = MAX_MESSAGE_BYTES): Decoder<T> {
  let total = 0;
  let step = decoder.next(EMPTY);
  while (!step.done) {
    total += step.value;
    if (total > maxBytes) {
      throw new ProtocolError('PROTOCOL_LIMIT', `A message is longer than ${maxBytes} bytes`, {
        context: { maxBytes },
      });
    }
    step = decoder.next(yield step.value);
  }
  return step.value;
}

/**
 * Decodes bytes that are already here, all of them.
 * @throws ProtocolError `PROTOCOL_TRUNCATED` when they end early, `PROTOCOL_MALFORMED` when some are left over.
 */
export function decodeAll<T>(decoder: Decoder<T>, input: Uint8Array): T {
  let at = 0;
  let step = decoder.next(EMPTY);
  while (!step.done) {
    const end = at + step.value;
    if (end > input.length) {
      throw new ProtocolError(
        'PROTOCOL_TRUNCATED',
        `A message of ${count(input.length, 'byte')} ends early`,
        {
          context: { bytes: input.length, wanted: end },
        },
      );
    }
    step = decoder.next(input.subarray(at, end));
    at = end;
  }
  if (at !== input.length) throw malformed(`A message is followed by ${count(input.length - at, 'byte')}`);
  return step.value;
}

/** Zero bytes that follow a string of this length. */
export function paddingOf(length: number): number {
  return (8 - (length % 8)) % 8;
}

/** Plain functions instead of a clearer nested generator: they run twice for each of 100,000 paths. */
function lengthOf(bytes: Uint8Array, what: 'bytes' | 'items', max: number): number {
  const claimed = toNumber(bytes);
  if (claimed <= max) return claimed;
  throw new ProtocolError(
    'PROTOCOL_LIMIT',
    `The peer announced ${claimed} ${what}; at most ${max} are accepted`,
    {
      context: { claimed, max },
    },
  );
}

/** Exact up to 2^53; larger for every larger value. */
function toNumber(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  return view.getUint32(4, true) * 0x1_0000_0000 + view.getUint32(0, true);
}
