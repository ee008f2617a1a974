import { DroverError } from '../lib/errors.js';
import type { Channel } from '../protocol/channel.js';
import { decodeStderrFrame } from '../protocol/stderr.js';
import type { Conversation } from '../protocol/wire.js';
import { WireWriter } from '../protocol/wire-writer.js';

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

export async function writeAll(to: Channel, parts: readonly Uint8Array[]): Promise<void> {
  for (const part of parts) await to.write(part);
}

/**
 * Passes log frames on, then the response, or an error in its place.
 * @param response what follows the last frame, if anything does. It is read as a whole before the client learns that
 *   one follows: until then, the client can still be told of an error.
 */
export async function relayResponse(
  guest: Channel,
  client: Channel,
  response: Conversation<unknown> | undefined,
): Promise<void> {
  const last = await relayFrames(guest, client);
  if (last === undefined) return;
  const raw = response === undefined ? [] : (await guest.receive(response)).raw;
  await writeAll(client, [...last, ...raw]);
}

/**
 * Passes log frames on, then a NAR, which nothing but its size tells the end of. When the guest is lost in the middle
 * of it, the client's connection is cut: an error frame would be taken for a part of the NAR.
 * @returns whether the session goes on: without a size the rest of it was passed on as mere bytes
 */
export async function relayNar(
  guest: Channel,
  client: Channel,
  narSize: number | undefined,
): Promise<boolean> {
  const last = await relayFrames(guest, client);
  if (last === undefined) return true;
  await writeAll(client, last);
  if (narSize === undefined || narSize === 0) {
    await relayBytes(guest, client);
    return false;
  }
  if ((await guest.relayTo(client, narSize)) === narSize) return true;
  client.destroy();
  throw new DroverError('GUEST_LOST', 'The guest was lost while it sent a path', {
    hint: 'Start the build again.',
  });
}

/** Both ways, until either side ends. */
export async function relayBytes(guest: Channel, client: Channel): Promise<void> {
  const up = client.relayTo(guest).finally(() => {
    guest.destroy();
  });
  // It ends when the session closes the client's connection; whatever it fails with, the other way fails with too.
  up.catch(() => undefined);
  await guest.relayTo(client);
}

/** @returns the bytes of the last frame if a response follows, not an error; they are not passed on yet */
async function relayFrames(guest: Channel, client: Channel): Promise<readonly Uint8Array[] | undefined> {
  for (;;) {
    const { value: frame, raw } = await guest.receive(decodeStderrFrame());
    if (frame.kind === 'last') return raw;
    await writeAll(client, raw);
    if (frame.kind === 'error') return undefined;
  }
}
