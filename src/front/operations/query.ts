import { setImmediate as nextTurn } from 'node:timers/promises';

import { slicesOf } from '../../lib/turns.js';
import {
  decodeAddTempRoot,
  decodeIsValidPath,
  decodeQueryPathInfo,
  decodeQueryValidPaths,
} from '../../protocol/operations.js';
import { encodeBoolResponse, encodeDoneResponse, encodePathInfoResponse } from '../../protocol/responses.js';
import type { StorePath } from '../../protocol/store-path.js';
import { WireWriter } from '../../protocol/wire-writer.js';
import type { PathInfo } from '../../protocol/path-info.js';
import type { OperationContext } from './context.js';
import { answer } from '../relay.js';

/** Paths that are asked about, and answered, together: with more, encoding them would keep the event loop. */
const PATHS_AT_ONCE = 500;

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
  // A set is sorted in Nix, and so a client's paths are already.
  const wanted = [...new Set(paths)].sort();
  const valid: StorePath[] = [];
  // The daemon substitutes all of them at the same time.
  for (const slice of slicesOf(wanted, substitute ? wanted.length : PATHS_AT_ONCE))
    for (const path of await validPaths(slice, substitute, context)) valid.push(path);
  await answer(client, new WireWriter().u64(valid.length).finish());
  for (const slice of slicesOf(valid, PATHS_AT_ONCE)) {
    const writer = new WireWriter();
    for (const path of slice) writer.string(path);
    await client.write(writer.finish());
    await nextTurn();
  }
}

/**
 * The host's record is the better one, with signatures and content address, wherever it is about the same content that
 * NarFromPath would send.
 */
export async function serveQueryPathInfo(context: OperationContext): Promise<void> {
  const { client, version, host, placement } = context;
  const path = await client.run(decodeQueryPathInfo(version));
  const [own, ours] = await Promise.all([
    placement.ask(async (seat) => {
      const info = await seat.ownInfo(path);
      if (info !== undefined) placement.results.noteTold(seat, path, info);
      return info;
    }),
    host.info(path),
  ]);
  const best = own === undefined || own.narHash === ours?.narHash ? ours : signed(path, own, context);
  await answer(client, encodePathInfoResponse(best, version));
}

/**
 * Adds this host's signature to what the guest has built. Not for untrusted clients whose guests are their own: such a
 * guest builds from whatever its client has uploaded.
 */
function signed(path: StorePath, info: PathInfo, { identity, policy, signer }: OperationContext): PathInfo {
  const proven = identity.trusted || !policy().confined;
  if (signer === undefined || !proven || !info.ultimate) return info;
  return { ...info, signatures: [...info.signatures, signer.sign({ ...info, path })] };
}

/** Pins the path on the host, for as long as the session lasts. A guest never collects garbage. */
export async function serveAddTempRoot({ client, version, host }: OperationContext): Promise<void> {
  const path = await client.run(decodeAddTempRoot(version));
  await host.store.addTempRoots([path]);
  await answer(client, encodeDoneResponse());
}

/** SyncWithGC: obsolete, and there is nothing to wait for. */
export async function serveSyncWithGC({ client }: OperationContext): Promise<void> {
  await answer(client, encodeDoneResponse());
}

/** In the order asked. The guest's own paths are those built or received: the host may have lost shared ones since. */
async function validPaths(
  paths: readonly StorePath[],
  substitute: boolean,
  { host, placement }: OperationContext,
): Promise<StorePath[]> {
  if (paths.length === 0) return [];
  const onHost = await host.store.queryValidPaths(paths, substitute);
  const inGuest = await placement.ask(async ({ daemon, guest }) =>
    daemon.queryValidPaths(paths.filter((path) => !guest.store.sharesAnyOf([path]))),
  );
  const valid = new Set(onHost);
  placement.results.noteValid((inGuest ?? []).filter((path) => !valid.has(path)));
  for (const path of inGuest ?? []) valid.add(path);
  return paths.filter((path) => valid.has(path));
}
