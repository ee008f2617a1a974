import { isDeepStrictEqual } from 'node:util';
import { decodeAll, type Conversation, type Decoder } from '../../../src/protocol/wire.js';
import { Feeder } from '../../../src/protocol/feeder.js';
import { errorCode } from '../../../src/lib/errors.js';

/** Outcome of a conversation that received `input` in these chunks, and then no more. */
export interface Outcome<T> {
  readonly value?: T;
  /** The code of the error that it threw. */
  readonly failure?: string;
  /** It still wants bytes. */
  readonly waiting: boolean;
  readonly sent: Buffer;
  readonly raw: Buffer;
  readonly rest: Buffer;
}

/** Feeds the chunks one by one, stopping when the conversation does. Throws what is not a DroverError. */
export function converse<T>(conversation: Conversation<T>, chunks: readonly Uint8Array[]): Outcome<T> {
  const feeder = new Feeder(conversation, undefined, { capture: true });
  const sent: Uint8Array[] = [];
  const outcome = (more: { value?: T; failure?: string; waiting: boolean }): Outcome<T> => ({
    ...more,
    sent: Buffer.concat(sent),
    raw: Buffer.concat(feeder.raw()),
    rest: Buffer.concat(feeder.rest()),
  });
  try {
    let progress = feeder.feed();
    sent.push(...progress.send);
    for (const chunk of chunks) {
      progress = feeder.feed(chunk);
      sent.push(...progress.send);
    }
    return outcome(progress.done ? { value: progress.value, waiting: false } : { waiting: true });
  } catch (error) {
    const code = errorCode(error);
    if (code?.startsWith('PROTOCOL_') !== true) throw error;
    sent.push(...feeder.unsent());
    return outcome({ failure: code, waiting: false });
  }
}

/** The code of the protocol error that this throws; anything else is rethrown. */
export function failureOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    const code = errorCode(error);
    if (code?.startsWith('PROTOCOL_') !== true) throw error;
    return code;
  }
}

/** The code of the error with which this decoder refuses these bytes, or `undefined`. */
export function refusal(decoder: Decoder<unknown>, input: Uint8Array): string | undefined {
  return failureOf(() => decodeAll(decoder, input));
}

/** The input in chunks of `size` bytes. */
export function chunked(input: Uint8Array, size: number): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < input.length; at += size) chunks.push(input.subarray(at, at + size));
  return chunks;
}

/**
 * Faults of a decoder that receives `input` split at each position, and cut there: none if each split gives
 * the value of the whole and leaves the tail alone, and each cut leaves it waiting. Texts instead of
 * assertions, since there is one for every byte of every message.
 */
export function faultsAtEveryByte<T>(decode: () => Decoder<T>, input: Uint8Array): string[] {
  const whole = decodeAll(decode(), input);
  const tail = Buffer.from('tail');
  const faults: string[] = [];
  for (let at = 0; at < input.length; at++) {
    const split = converse(decode(), [input.subarray(0, at), input.subarray(at), tail]);
    if (!isDeepStrictEqual(split.value, whole)) faults.push(`split at ${at}: another value`);
    if (!split.raw.equals(input)) faults.push(`split at ${at}: other bytes consumed`);
    if (!split.rest.equals(tail)) faults.push(`split at ${at}: the tail is lost`);
    const cut = converse(decode(), [input.subarray(0, at)]);
    if (!cut.waiting) faults.push(`cut at ${at}: does not wait`);
    if (refusal(decode(), input.subarray(0, at)) !== 'PROTOCOL_TRUNCATED')
      faults.push(`cut at ${at}: accepted`);
  }
  return faults;
}
