import type { Channel } from '../../daemon/channel.js';
import { DroverError } from '../../lib/errors.js';
import { encodeFrame, encodeFrameEnd } from '../../protocol/framed.js';
import { NarCheck, NarInvalidError } from '../../protocol/nar-check.js';
import { Op } from '../../protocol/operations.js';
import type { ValidPathInfo } from '../../protocol/path-info.js';
import { decodeAddToStoreResponse } from '../../protocol/responses.js';
import type { StorePath } from '../../protocol/store-path.js';
import {
  decodeAddedPath,
  decodeAddMultipleToStore,
  decodeAddToStore,
  decodeAddToStoreNar,
  decodePathCount,
  encodeAddedPath,
  encodeAddMultipleToStore,
  encodeAddToStoreNar,
  encodePathCount,
} from '../../protocol/data-requests.js';
import type { OperationContext } from './context.js';
import { FramedInput } from '../framed-input.js';
import { answer, capture, relayFrames, relayResponse, writeAll } from '../relay.js';
import { refuse, REPAIR, type Refusal } from '../refusals.js';
import type { Seat } from '../seat.js';
import { admit, isRefusal } from './admission.js';

interface Header {
  readonly references: readonly StorePath[];
  /** The path that the data is the NAR of, with its path info; undefined if the daemon makes the info. */
  readonly nar?: ValidPathInfo;
  readonly raw: readonly Uint8Array[];
}

/** AddToStore: a header, and a stream of data. */
export async function serveAddToStore(context: OperationContext): Promise<void> {
  const { client, version } = context;
  const { value, raw } = await capture(client, Op.AddToStore, decodeAddToStore(version));
  if (value.repair) {
    await refuseUpload(context, Op.AddToStore, REPAIR);
    return;
  }
  await passUpload(context, { references: value.references, raw }, true);
}

/** AddToStoreNar: the same with a path info, and an empty response. */
export async function serveAddToStoreNar(context: OperationContext): Promise<void> {
  const { client, version } = context;
  const { value } = await capture(client, Op.AddToStoreNar, decodeAddToStoreNar(version));
  const admission = value.repair ? REPAIR : admit(value.info, context);
  if (isRefusal(admission)) {
    await refuseUpload(context, Op.AddToStoreNar, admission);
    return;
  }
  const info = notBuiltHere(value.info);
  const { dontCheckSignatures } = admission === 'as-sent' ? value : admission;
  const header = [encodeAddToStoreNar({ info, repair: false, dontCheckSignatures })];
  await passUpload(context, { references: othersOf(info), nar: info, raw: header }, false);
}

/** Nix believes a client's claim that a path was built in its own store. An upload never was. */
function notBuiltHere(info: ValidPathInfo): ValidPathInfo {
  return { ...info, ultimate: false };
}

/** Answers with an error, and reads the data that is still to come: the session goes on. */
async function refuseUpload(context: OperationContext, op: number, refusal: Refusal): Promise<void> {
  await refuse(context, op, refusal);
  await new FramedInput(context.client).drain();
}

async function passUpload(context: OperationContext, header: Header, responds: boolean): Promise<void> {
  const { client, placement, version } = context;
  await placement.run({}, async (seat) => {
    seat.bind('upload');
    await seat.provisionMentioned(header.references);
    await seat.daemon.exchange(async (channel) => {
      const send = async (): Promise<void> => {
        await writeAll(channel, header.raw);
        const input = new FramedInput(client, placement.mayPause);
        if (header.nar === undefined) {
          await input.pass(channel);
        } else {
          await passNar(input, channel, header.nar);
          await input.expectEnd();
        }
        await channel.write(encodeFrameEnd());
      };
      const response = responds ? decodeAddToStoreResponse(version) : undefined;
      await sendAndListen(send(), channel, relayResponse(channel, client, response));
    });
  });
}

/**
 * AddMultipleToStore. The references of a path must be valid in the guest before the path gets there, and each path is
 * a request of its own there: the guest may have it already, from an earlier upload. Nix 2.8 then takes its NAR for the
 * next path, but it does step over the rest of a request. An empty upload, which Nix 2.8 sends too, takes no guest.
 */
export async function serveAddMultipleToStore(context: OperationContext): Promise<void> {
  const { client, placement, version } = context;
  const { value, raw } = await capture(client, Op.AddMultipleToStore, decodeAddMultipleToStore(version));
  if (value.repair) {
    await refuseUpload(context, Op.AddMultipleToStore, REPAIR);
    return;
  }
  const input = new FramedInput(client, placement.mayPause);
  const { value: count } = await input.receive(decodePathCount());
  if (count > 0 && !(await placement.run({}, (seat) => passPaths(seat, count, raw, input, context)))) return;
  await input.expectEnd();
  await answer(client);
}

/** @returns whether the guest has taken all paths; if not, the client has been told why */
async function passPaths(
  seat: Seat,
  count: number,
  raw: readonly Uint8Array[],
  input: FramedInput,
  context: OperationContext,
): Promise<boolean> {
  seat.bind('upload');
  for (let i = 0; i < count; i++) {
    const info = notBuiltHere((await input.receive(decodeAddedPath())).value);
    const admission = admit(info, context);
    if (isRefusal(admission)) {
      await refuse(context, Op.AddMultipleToStore, admission);
      await input.drain();
      return false;
    }
    await seat.provisionMentioned(othersOf(info));
    const header =
      admission === 'as-sent' ? raw : [encodeAddMultipleToStore({ repair: false, ...admission })];
    const begin = [...header, ...[encodePathCount(1), encodeAddedPath(info)].map(encodeFrame)];
    if (await passPath(seat, begin, info, input, context.client)) continue;
    // The client may end the upload wherever it learns of the error.
    await input.drain();
    return false;
  }
  return true;
}

/** Passes one path on. @returns whether the guest has taken it; if not, the client has been told why */
async function passPath(
  seat: Seat,
  begin: readonly Uint8Array[],
  info: ValidPathInfo,
  input: FramedInput,
  client: Channel,
): Promise<boolean> {
  let refused = false;
  await seat.daemon.exchange(async (channel) => {
    const send = async (): Promise<void> => {
      await writeAll(channel, begin);
      try {
        await passNar(input, channel, info);
      } catch (error) {
        if (!refused || !input.ended) throw error;
      }
      await channel.write(encodeFrameEnd());
    };
    const listen = async (): Promise<void> => {
      refused = (await relayFrames(channel, client)) === undefined;
    };
    await sendAndListen(send(), channel, listen());
  });
  return !refused;
}

/** Passes the NAR of a path on. @throws DroverError `UPLOAD_INVALID` if it is not what the path info says */
async function passNar(input: FramedInput, to: Channel, info: ValidPathInfo): Promise<void> {
  try {
    await input.pass(to, new NarCheck(info.path, info));
  } catch (error) {
    if (!(error instanceof NarInvalidError)) throw error;
    throw new DroverError('UPLOAD_INVALID', error.message, {
      cause: error,
      hint: 'Check the path where it comes from with: nix-store --verify-path.',
    });
  }
}

/**
 * Runs an upload and what the guest says meanwhile side by side: its daemon reports each path, and reads no further
 * while its reports are not read.
 */
async function sendAndListen(
  upload: Promise<void>,
  channel: Channel,
  response: Promise<void>,
): Promise<void> {
  // The first failure decides. The response must not go on to the client after that.
  response.catch(() => undefined);
  try {
    await Promise.race([upload, response.then(() => upload)]);
  } catch (error) {
    channel.destroy();
    await response.catch(() => undefined);
    throw error;
  }
  await response;
}

function othersOf({ path, references }: { path: StorePath; references: readonly StorePath[] }): StorePath[] {
  return references.filter((reference) => reference !== path);
}
