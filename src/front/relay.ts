import type { Channel } from '../daemon/channel.js';
import { DroverError } from '../lib/errors.js';
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
  for (;;) {
    const { value: frame, raw } = await from.receive(decodeStderrFrame());
    if (frame.kind === 'last') return raw;
    if (client !== undefined) await writeAll(client, raw);
    if (frame.kind !== 'error') continue;
    if (client === undefined) throw new DroverError('GUEST_REFUSED', frame.error.message);
    return undefined;
  }
}
