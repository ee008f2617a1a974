import { Op } from '../../protocol/operations.js';
import { decodeAddSignatures } from '../../protocol/questions.js';
import { decodeDoneResponse, encodeDoneResponse } from '../../protocol/responses.js';
import { answer, capture } from '../relay.js';
import { refuse, trustAdvice } from '../refusals.js';
import type { OperationContext } from './context.js';

/**
 * AddSignatures. On a path that the host has, the signature goes to the host's store, whose record every client is
 * shown. In a guest it would be thrown away.
 */
export async function serveAddSignatures(context: OperationContext, op: number): Promise<void> {
  const { client, host, identity, version } = context;
  const { value, raw } = await capture(client, Op.AddSignatures, decodeAddSignatures(version));
  if (!identity.trusted) {
    await refuse(context, op, {
      why: "it changes the host's store",
      advice: `Sign the path in a store of yours. ${trustAdvice(identity.name)}`,
    });
    return;
  }
  if ((await host.info(value.path)) === undefined) {
    await refuse(context, op, {
      why: 'the host does not have this path, and in a guest the signature would be thrown away',
      advice: 'Copy the path to the store that is to keep it, and sign it there',
    });
    return;
  }
  await host.store.ask(raw, decodeDoneResponse);
  await answer(client, encodeDoneResponse());
}
