import { DroverError } from '../lib/errors.js';
import type { Channel } from '../daemon/channel.js';
import { decodeStderrFrame, encodeStderrFrame } from '../protocol/stderr.js';
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
 * A NAR on its way to the client, after log frames. Nothing but its size tells the end of it. When the guest is lost in the
 * middle, another one that has the same path can go on.
 */
export class NarRelay {
  readonly #client: Channel;
  /** Bytes of the NAR that the client has been sent; undefined until it knows that one follows. */
  #sent: number | undefined;

  constructor(client: Channel) {
    this.#client = client;
  }

  /**
   * Relays what this guest answers, from where the last one stopped.
   * @returns whether the session goes on: without a size the rest of it was passed on as mere bytes
   * @throws DroverError `GUEST_LOST` when it ends too early
   */
  async from(guest: Channel, narSize: number | undefined): Promise<boolean> {
    const last = await relayFrames(guest, this.#sent === undefined ? this.#client : undefined);
    if (last === undefined) return true;
    if (this.#sent === undefined) {
      await writeAll(this.#client, last);
      this.#sent = 0;
    }
    if (narSize === undefined || narSize === 0) {
      await relayBytes(guest, this.#client);
      return false;
    }
    await guest.skip(this.#sent);
    this.#sent += await guest.relayTo(this.#client, narSize - this.#sent);
    if (this.#sent === narSize) return true;
    throw new DroverError('GUEST_LOST', 'The guest was lost while it sent a path', {
      hint: 'Start the build again.',
    });
  }

  /** Cuts the client's connection if a NAR has begun: it would take an error frame for a part of it. */
  cut(): void {
    if (this.#sent !== undefined) this.#client.destroy();
  }
}

/**
 * Sends a NAR of the host's. As long as nothing of it has come, the client can still be told of an error; in the
 * middle of it, as above, the connection is cut.
 */
export async function sendNar(nar: AsyncIterable<Uint8Array>, client: Channel): Promise<void> {
  let begun = false;
  try {
    for await (const part of nar) {
      if (!begun) await client.write(encodeStderrFrame({ kind: 'last' }));
      begun = true;
      await client.write(part);
    }
  } catch (error) {
    if (begun) client.destroy();
    throw error;
  }
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

/**
 * Passes log frames on, up to the last one.
 * @param client gets the frames; undefined where it expects none any more
 * @returns the bytes of the last frame if a response follows, not an error; they are not passed on yet
 * @throws DroverError `GUEST_REFUSED` for an error that the client cannot be told
 */
export async function relayFrames(
  guest: Channel,
  client: Channel | undefined,
): Promise<readonly Uint8Array[] | undefined> {
  for (;;) {
    const { value: frame, raw } = await guest.receive(decodeStderrFrame());
    if (frame.kind === 'last') return raw;
    if (client !== undefined) await writeAll(client, raw);
    if (frame.kind !== 'error') continue;
    if (client === undefined) throw new DroverError('GUEST_REFUSED', frame.error.message);
    return undefined;
  }
}
