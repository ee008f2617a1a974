import type { Channel } from '../../daemon/channel.js';
import { DroverError } from '../../lib/errors.js';
import { decodeNarFromPath, Op } from '../../protocol/operations.js';
import { encodeStderrFrame } from '../../protocol/stderr.js';
import type { OperationContext } from './context.js';
import { capture, relayBytes, relayFrames, writeAll } from '../relay.js';

/**
 * NarFromPath. A path that the guest has built or received comes from there. Any other comes from the host's store if
 * it is valid there, which takes no guest.
 */
export async function serveNar(context: OperationContext): Promise<void> {
  const { client, host, placement, version, move } = context;
  const { value: path, raw } = await capture(client, Op.NarFromPath, decodeNarFromPath(version));
  const relay = new NarRelay(client);
  try {
    const sent = await placement.ask(async (seat) => {
      const own = await seat.ownInfo(path);
      if (own === undefined) return false;
      placement.results.noteTold(seat, path, own);
      await seat.daemon.exchange((channel) => relay.from(channel, raw, own.narSize));
      return true;
    });
    if (sent === true) return;
    const narSize = await host.narSize(path);
    if (narSize !== undefined) {
      await sendNar((await host.connection()).narFromPath(path, narSize), client);
      return;
    }
    await placement.run({}, async (seat) => {
      await seat.provisionMentioned([path]);
      await seat.daemon.exchange(async (channel) => {
        const last = await relay.begin(channel, raw);
        if (last === undefined) return;
        move('relay');
        await relayBytes(channel, client);
      });
    });
  } catch (error) {
    relay.cut();
    throw error;
  }
}

/**
 * A NAR on its way from a guest to the client, after log frames. When the guest is lost in the middle, another one that
 * has the same path can continue.
 */
class NarRelay {
  readonly #client: Channel;
  /** Bytes of the NAR that the client has been sent; undefined until it knows that one follows. */
  #sent: number | undefined;

  constructor(client: Channel) {
    this.#client = client;
  }

  /** Sends the request, and passes on what precedes the NAR. @returns undefined if the guest answered with an error */
  async begin(channel: Channel, request: readonly Uint8Array[]): Promise<'begun' | undefined> {
    await writeAll(channel, request);
    const last = await relayFrames(channel, this.#sent === undefined ? this.#client : undefined);
    if (last === undefined) return undefined;
    if (this.#sent === undefined) {
      await writeAll(this.#client, last);
      this.#sent = 0;
    }
    return 'begun';
  }

  /**
   * Relays the answer of this guest, from where the last one stopped.
   * @throws DroverError `NAR_TRUNCATED` when it ends too early
   */
  async from(channel: Channel, request: readonly Uint8Array[], narSize: number): Promise<void> {
    if ((await this.begin(channel, request)) === undefined) return;
    const sent = this.#sent ?? 0;
    await channel.skip(sent);
    this.#sent = sent + (await channel.relayTo(this.#client, narSize - sent));
    if (this.#sent === narSize) return;
    throw new DroverError('NAR_TRUNCATED', 'The guest ended in the middle of a path');
  }

  /** Cuts the client's connection if a NAR has begun: it would take an error frame for a part of it. */
  cut(): void {
    if (this.#sent !== undefined) this.#client.destroy();
  }
}

/** Sends a NAR of the host's. Until its first byte has come, the client can still be told of an error. */
async function sendNar(nar: AsyncIterable<Uint8Array>, client: Channel): Promise<void> {
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
