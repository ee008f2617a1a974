import type { Channel } from '../../daemon/channel.js';
import { DroverError } from '../../lib/errors.js';
import type { Extent } from '../../protocol/byte-queue.js';
import { NarCheck, NarInvalidError, type NarFacts } from '../../protocol/nar-check.js';
import { decodeNarFromPath, Op } from '../../protocol/operations.js';
import { encodeErrorFrame, encodeStderrFrame } from '../../protocol/stderr.js';
import type { StorePath } from '../../protocol/store-path.js';
import type { OperationContext } from './context.js';
import { capture, relayFrames, writeAll } from '../relay.js';

/**
 * NarFromPath. A path that the guest has built or received comes from there. Any other comes from the host's
 * store, without a guest. A NAR that differs from its path info is cut before its last bytes, and the
 * client's connection with it.
 */
export async function serveNar(context: OperationContext): Promise<void> {
  const { client, host, placement, version } = context;
  const { value: path, raw } = await capture(client, Op.NarFromPath, decodeNarFromPath(version));
  const relay = new NarRelay(client, path);
  try {
    const sent = await placement.ask(async (seat) => {
      const own = await seat.ownInfo(path);
      if (own === undefined) return false;
      const facts = { narSize: own.narSize, narHash: placement.results.noteTold(seat, path, own) };
      await seat.daemon.exchange((channel) => relay.from(channel, raw, facts));
      return true;
    });
    if (sent === true) return;
    const info = await host.pathInfo(path);
    if (info === undefined) await client.write(encodeErrorFrame(`path '${path}' is not valid`));
    else await sendNar(host.store.narFromPath(path, info), client);
  } catch (error) {
    if (relay.begun) cut(client, error);
    throw error;
  }
}

/**
 * A NAR on its way from a guest to the client, after log frames. When the guest is lost in the middle, another one that
 * has the same path can continue.
 */
class NarRelay {
  readonly #client: Channel;
  readonly #path: StorePath;
  /** The NAR so far; undefined until the client knows that one follows. */
  #nar: NarCheck | undefined;

  constructor(client: Channel, path: StorePath) {
    this.#client = client;
    this.#path = path;
  }

  /**
   * Relays the answer of this guest, from where the last one stopped.
   * @throws NarInvalidError; DroverError `NAR_TRUNCATED` when it ends too early
   */
  async from(channel: Channel, request: readonly Uint8Array[], facts: NarFacts): Promise<void> {
    await writeAll(channel, request);
    const earlier = this.#nar;
    const last = await relayFrames(channel, earlier === undefined ? this.#client : undefined);
    if (last === undefined) return;
    const nar = new NarCheck(this.#path, facts);
    if (earlier === undefined) await writeAll(this.#client, last);
    else await this.#skip(channel, nar, earlier);
    this.#nar = nar;
    await channel.relayTo(this.#client, nar);
    if (nar.complete) return;
    throw new DroverError('NAR_TRUNCATED', 'The guest ended in the middle of a path');
  }

  /** Reads again what the client has, which must be the same. */
  async #skip(channel: Channel, nar: NarCheck, { bytes, digest }: NarCheck): Promise<void> {
    const known: Extent = {
      get complete() {
        return nar.bytes === bytes;
      },
      take: (chunk) => nar.take(chunk.subarray(0, bytes - nar.bytes)),
    };
    while (!known.complete) await channel.readWithin(known);
    if (!nar.digest.equals(digest)) {
      throw new NarInvalidError(this.#path, 'is not the same in another guest');
    }
  }

  /** The client waits for the rest of a NAR. */
  get begun(): boolean {
    return this.#nar !== undefined;
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
    if (begun) cut(client, error);
    throw error;
  }
}

/** Ends the client's connection in the middle of a NAR: it would take an error frame for a part of that. */
function cut(client: Channel, error: unknown): void {
  if (!client.gone.aborted) client.interrupt(error as Error);
  client.destroy();
}
