import type { OperationContext } from './context.js';
import { answer, capture, encodeOp, relayBytes, relayResponse, writeAll } from '../relay.js';
import type { DroverError } from '../../lib/errors.js';
import { Op } from '../../protocol/operations.js';
import { refuse, refusedForGood, REPAIR, trustAdvice } from '../refusals.js';
import { forwardedRequest } from '../requests.js';

/**
 * Operations that the guest answers, unless the host's store has the answer.
 */
export async function forward(context: OperationContext, op: number): Promise<void> {
  const { client, host, placement, policy, version } = context;
  const known = forwardedRequest(op, version);
  if (known === undefined) {
    await relayUnknown(context, op);
    return;
  }
  const { value: mentions, raw } = await capture(client, op, known.request(version));
  if (mentions.repair === true) {
    await refuse(context, op, REPAIR);
    return;
  }
  if (op === Op.RegisterDrvOutput && !context.identity.trusted && !policy().confined) {
    await refuse(context, op, {
      why: 'guests are shared, and other clients would build on what this one says',
      advice: trustAdvice(context.identity.name),
    });
    return;
  }
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

/**
 * Passes a request whose end is not known on to the guest, with the rest of the session. For trusted clients only: what
 * passes is not looked at.
 * @throws DroverError `OPERATION_REFUSED`
 */
export async function relayUnknown(context: OperationContext, op: number): Promise<void> {
  const { client, identity, placement, move } = context;
  if (!identity.trusted) throw unknownRefused(context, op);
  await placement.run({}, async (seat) => {
    seat.bind('upload');
    move('relay');
    await seat.daemon.exchange(async (channel) => {
      await channel.write(encodeOp(op));
      await relayBytes(channel, client);
    });
  });
}

function unknownRefused(context: OperationContext, op: number): DroverError {
  return refusedForGood(context, op, {
    why: 'Drover does not know it, and passes on what it does not know for trusted clients only',
    advice: trustAdvice(context.identity.name),
  });
}
