import type { Channel } from '../daemon/channel.js';
import { DroverError } from '../lib/errors.js';
import { UNENDING } from '../protocol/byte-queue.js';
import { LogScanner, type LogFrame } from '../protocol/log-scanner.js';
import { decodeStderrFrame, encodeStderrFrame } from '../protocol/stderr.js';
import type { Conversation } from '../protocol/wire.js';
import { WireWriter } from '../protocol/wire-writer.js';

const LAST = encodeStderrFrame({ kind: 'last' });

/** The bytes of an operation's code. */
export function encodeOp(op: number): Uint8Array {
  return new WireWriter().u64(op).finish();
}

/** A request with all its bytes, the operation's code included. */
export async function capture<T>(
  client: Channel,
  op: number,
  payload: Conversation<T>,
): Promise<{ value: T; raw: readonly Uint8Array[] }> {
  const { value, raw } = await client.receive(payload);
  return { value, raw: [encodeOp(op), ...raw] };
}

/** Answers a request from here. */
export async function answer(client: Channel, response?: Uint8Array): Promise<void> {
  await client.write(response === undefined ? LAST : Buffer.concat([LAST, response]));
}

export async function writeAll(to: Channel, parts: readonly Uint8Array[]): Promise<void> {
  for (const part of parts) await to.write(part);
}

/**
 * Passes log frames on, then the response, or an error in its place.
 * @param response follows the last frame. It is read as a whole before the client learns that one follows: until then,
 *   the client can still be told of an error. Undefined if nothing follows.
 */
export async function relayResponse(
  from: Channel,
  client: Channel,
  response: Conversation<unknown> | undefined,
): Promise<void> {
  const last = await relayFrames(from, client);
  if (last === undefined) return;
  const raw = response === undefined ? [] : (await from.receive(response)).raw;
  await writeAll(client, [...last, ...raw]);
}

/** Both ways, until either side ends. */
export async function relayBytes(from: Channel, client: Channel): Promise<void> {
  const up = client.relayTo(from).finally(() => {
    from.destroy();
  });
  // It ends when the session closes the client's connection; whatever it fails with, the other way fails with too.
  up.catch(() => undefined);
  await from.relayTo(client);
}

/** Where log frames go. */
export interface LogSink {
  readonly write: (parts: readonly Uint8Array[]) => Promise<void>;
  /** @returns a promise to wait for before more is read */
  readonly observe: (frame: LogFrame) => Promise<void> | undefined;
}

const UNHEARD: LogSink = { write: () => Promise.resolve(), observe: () => undefined };

/**
 * Passes log frames on as they come, up to where the last one or an error begins. If the guest ends in the middle of a
 * frame, the frame is completed: the client can be sent others.
 */
export async function relayLog(from: Channel, { write, observe }: LogSink): Promise<void> {
  let behind: Promise<void> | undefined;
  const scanner = new LogScanner((frame) => {
    behind = observe(frame);
    if (behind !== undefined) scanner.pause();
  });
  try {
    for (;;) {
      const chunks = [...(await from.readWithin(UNENDING))];
      for (let chunk = chunks.shift(); chunk !== undefined; chunk = chunks.shift()) {
        await write(scanner.push(chunk));
        if (scanner.pausing || scanner.ended) break;
      }
      for (const chunk of chunks.reverse()) from.unread(chunk);
      from.unread(scanner.rest);
      await behind;
      if (scanner.ended) return;
    }
  } catch (error) {
    for (const filler of scanner.completion()) await write([filler]);
    throw error;
  }
}

/**
 * Passes log frames on, up to the last one.
 * @param client undefined if the client expects no frames any more
 * @returns the bytes of the last frame, which are not passed on yet; undefined if an error took its place
 * @throws DroverError `GUEST_REFUSED` for an error that the client cannot be told
 */
export async function relayFrames(
  from: Channel,
  client: Channel | undefined,
): Promise<readonly Uint8Array[] | undefined> {
  const sink = client === undefined ? UNHEARD : { ...UNHEARD, write: writeAll.bind(undefined, client) };
  await relayLog(from, sink);
  const { value: frame, raw } = await from.receive(decodeStderrFrame());
  if (frame.kind !== 'error') return raw;
  if (client === undefined) throw new DroverError('GUEST_REFUSED', frame.error.message);
  await writeAll(client, raw);
  return undefined;
}
