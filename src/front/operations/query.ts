import {
  decodeAddTempRoot,
  decodeIsValidPath,
  decodeQueryPathInfo,
  decodeQueryValidPaths,
} from '../../protocol/operations.js';
import {
  encodeBoolResponse,
  encodeDoneResponse,
  encodePathInfoResponse,
  encodeStorePathsResponse,
} from '../../protocol/responses.js';
import type { StorePath } from '../../protocol/store-path.js';
import type { OperationContext } from './context.js';
import { answer } from '../relay.js';

/*
 * Questions about paths. To the client, the host's store and the guest's are one: the guest is asked if the session has
 * one, but no guest is taken for a question.
 */

export async function serveIsValidPath(context: OperationContext): Promise<void> {
  const { client, version } = context;
  const path = await client.run(decodeIsValidPath(version));
  await answer(client, encodeBoolResponse((await validPaths([path], false, context)).length > 0));
}

export async function serveQueryValidPaths(context: OperationContext): Promise<void> {
  const { client, version } = context;
  const { paths, substitute } = await client.run(decodeQueryValidPaths(version));
  await answer(client, encodeStorePathsResponse(await validPaths(paths, substitute, context)));
}

export async function serveQueryPathInfo({
  client,
  version,
  host,
  placement,
}: OperationContext): Promise<void> {
  const path = await client.run(decodeQueryPathInfo(version));
  const theirs = await placement.ask(async (seat) => {
    const [info] = await seat.daemon.queryPathInfos([path]);
    if (info !== undefined) placement.results.noteTold(seat, path, info);
    return info;
  });
  const [ours] = theirs === undefined ? await (await host.connection()).queryPathInfos([path]) : [];
  await answer(client, encodePathInfoResponse(theirs ?? ours, version));
}

/** Pins the path on the host, for as long as the session lasts. A guest never collects garbage. */
export async function serveAddTempRoot({ client, version, host }: OperationContext): Promise<void> {
  const path = await client.run(decodeAddTempRoot(version));
  await (await host.connection()).addTempRoots([path]);
  await answer(client, encodeDoneResponse());
}

async function validPaths(
  paths: readonly StorePath[],
  substitute: boolean,
  { host, placement }: OperationContext,
): Promise<StorePath[]> {
  if (paths.length === 0) return [];
  const onHost = await (await host.connection()).queryValidPaths(paths, substitute);
  const inGuest = await placement.ask((seat) => seat.daemon.queryValidPaths(paths));
  return [...new Set([...onHost, ...(inGuest ?? [])])].sort();
}
