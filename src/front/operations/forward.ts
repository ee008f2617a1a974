import type { OperationContext } from './context.js';
import { answer, capture, encodeOp, relayBytes, relayResponse, writeAll } from '../relay.js';
import { forwardedRequest } from '../requests.js';

/**
 * Every other operation. It goes to the guest, unless the host's store has the answer. If the end of the operation is
 * not known, the rest of the session goes with it.
 */
export async function forward(op: number, context: OperationContext): Promise<void> {
  const { client, host, placement, version } = context;
  const known = forwardedRequest(op, version);
  if (known === undefined) {
    await relaySession(op, context);
    return;
  }
  const { value: mentions, raw } = await capture(client, op, known.request(version));
  if (known.whenValid !== undefined && !placement.seated && (await host.suffices(mentions))) {
    await answer(client, known.whenValid());
    return;
  }
  const { roots, missing } = await host.lookUpBuild(mentions.derivations);
  await placement.run({ outputs: missing }, async (seat) => {
    seat.bind('upload');
    await seat.provisionMentioned([...mentions.paths, ...roots]);
    await seat.daemon.exchange(async (channel) => {
      await writeAll(channel, raw);
      await relayResponse(channel, client, known.response(version));
    });
  });
}

async function relaySession(op: number, { client, placement, move }: OperationContext): Promise<void> {
  await placement.run({}, async (seat) => {
    seat.bind('upload');
    move('relay');
    await seat.daemon.exchange(async (channel) => {
      await channel.write(encodeOp(op));
      await relayBytes(channel, client);
    });
  });
}
