import type { Channel } from '../daemon/channel.js';
import { encodeFrame, encodeFrameEnd } from '../protocol/framed.js';
import { decodeNarFromPath, Op } from '../protocol/operations.js';
import { decodeAddToStoreResponse } from '../protocol/responses.js';
import { encodeStderrFrame } from '../protocol/stderr.js';
import type { StorePath } from '../protocol/store-path.js';
import {
  decodeAddedPath,
  decodeAddMultipleToStore,
  decodeAddToStore,
  decodeAddToStoreNar,
  decodePathCount,
  encodePathCount,
} from '../protocol/uploads.js';
import type { ProtocolVersion } from '../protocol/version.js';
import type { Backend } from './backend.js';
import {
  capture,
  encodeOp,
  NarRelay,
  relayBytes,
  relayFrames,
  relayResponse,
  sendNar,
  writeAll,
} from './relay.js';
import { forwardedRequest } from './requests.js';
import type { Results } from './results.js';
import { FramedInput } from './framed-input.js';

/** What the guest needs in order to answer for this session. */
export interface ForwardContext {
  readonly client: Channel;
  readonly backend: Backend;
  readonly results: Results;
  /** Of the client's connection and of the guest's. */
  readonly version: ProtocolVersion;
}

/** AddToStore and AddToStoreNar: a header, and a stream of data. */
export async function forwardUpload(op: number, context: ForwardContext): Promise<void> {
  const { client, backend, version } = context;
  const isNar = op === Op.AddToStoreNar;
  const { references, raw } = await (isNar ? narHeader(context) : storeHeader(context));
  const guest = await bindGuest([], backend);
  await backend.provisionMentioned(references);
  const send = async (): Promise<void> => {
    await writeAll(guest, raw);
    await new FramedInput(client).finish(guest);
  };
  await exchange(
    send(),
    guest,
    relayResponse(guest, client, isNar ? undefined : decodeAddToStoreResponse(version)),
  );
}

interface UploadHeader {
  readonly references: readonly StorePath[];
  readonly raw: readonly Uint8Array[];
}

async function narHeader({ client, version }: ForwardContext): Promise<UploadHeader> {
  const { value, raw } = await capture(client, Op.AddToStoreNar, decodeAddToStoreNar(version));
  return { references: value.info.references.filter((path) => path !== value.info.path), raw };
}

async function storeHeader({ client, version }: ForwardContext): Promise<UploadHeader> {
  const { value, raw } = await capture(client, Op.AddToStore, decodeAddToStore(version));
  return { references: value.references, raw };
}

/**
 * AddMultipleToStore: what a path refers to must be valid in the guest before the path gets there. Each path is a request
 * of its own there: the guest may have it already, from an earlier upload, and Nix 2.8 then takes its NAR for the next
 * path, but does step over what is left of a request.
 * @returns whether the client has been answered, with the guest's error. Otherwise it is to be told that all went well:
 *   without a guest where there is nothing to upload, which Nix 2.8 says too.
 */
export async function forwardUploads({ client, backend, version }: ForwardContext): Promise<boolean> {
  const { raw } = await capture(client, Op.AddMultipleToStore, decodeAddMultipleToStore(version));
  const input = new FramedInput(client);
  const { value: count } = await input.receive(decodePathCount());
  if (count > 0) {
    const guest = await bindGuest([], backend);
    for (let i = 0; i < count; i++) {
      const { value: info, raw: header } = await input.receive(decodeAddedPath());
      await backend.provisionMeanwhile(info.references.filter((path) => path !== info.path));
      const begin = [...raw, ...[encodePathCount(1), ...header].map(encodeFrame)];
      if (await forwardPath(begin, info.narSize, input, guest, client)) continue;
      // The client may end the upload wherever it learns of the error.
      await input.drain();
      return true;
    }
  }
  await input.expectEnd();
  return false;
}

/** One path of an upload. @returns whether the guest has taken it; if not, the client has been told why */
async function forwardPath(
  begin: readonly Uint8Array[],
  narSize: number,
  input: FramedInput,
  guest: Channel,
  client: Channel,
): Promise<boolean> {
  let refused = false;
  const send = async (): Promise<void> => {
    await writeAll(guest, begin);
    try {
      await input.pass(guest, narSize);
    } catch (error) {
      if (!refused || !input.ended) throw error;
    }
    await guest.write(encodeFrameEnd());
  };
  const answer = relayFrames(guest, client).then((last) => {
    refused = last === undefined;
  });
  await exchange(send(), guest, answer);
  return !refused;
}

/**
 * NarFromPath: what the guest has built or was sent comes from there, and all else from the host's store if it has it,
 * which takes no guest. A result's way to the client survives the end of its guest.
 * @returns whether the session goes on
 */
export async function forwardNar({ client, backend, results, version }: ForwardContext): Promise<boolean> {
  const { value: path, raw } = await capture(client, Op.NarFromPath, decodeNarFromPath(version));
  const relay = new NarRelay(client);
  try {
    return await results.outlive(async () => {
      const own = await backend.ownInfo(path);
      if (own === undefined) {
        const narSize = await backend.hostNarSize(path);
        if (narSize !== undefined) {
          await sendNar((await backend.host()).narFromPath(path, narSize), client);
          return true;
        }
      }
      const { guest } = await backend.takeGuest([]);
      if (own === undefined) await backend.provisionMentioned([path]);
      else results.noteTold(path, own);
      await writeAll(guest.channel, raw);
      return await relay.from(guest.channel, own?.narSize);
    });
  } catch (error) {
    relay.cut();
    throw error;
  }
}

/**
 * Everything else is the guest's, unless a look into the host's store answers it: passed on, or, when its end is not known, the rest of the session with it.
 * @returns whether the session goes on
 */
export async function forwardRequest(op: number, context: ForwardContext): Promise<boolean> {
  const { client, backend, version } = context;
  const known = forwardedRequest(op, version);
  if (known === undefined) {
    const guest = await bindGuest([], backend);
    await guest.write(encodeOp(op));
    await relayBytes(guest, client);
    return false;
  }
  const { value: mentions, raw } = await capture(client, op, known.request(version));
  if (known.whenValid !== undefined && (await backend.hostSuffices(mentions))) {
    await client.write(Buffer.concat([encodeStderrFrame({ kind: 'last' }), known.whenValid()]));
    return true;
  }
  const { roots, missing } = await backend.lookUpBuild(mentions.derivations);
  const guest = await bindGuest(missing, backend);
  await backend.provisionMentioned([...mentions.paths, ...roots]);
  await writeAll(guest, raw);
  await relayResponse(guest, client, known.response(version));
  return true;
}

async function bindGuest(outputs: readonly StorePath[], backend: Backend): Promise<Channel> {
  const { guest } = await backend.takeGuest(outputs);
  backend.bind('upload');
  return guest.channel;
}

/**
 * An upload, and what the guest says meanwhile: its daemon reports each path, and reads no further while nobody
 * listens.
 */
async function exchange(upload: Promise<void>, guest: Channel, answer: Promise<void>): Promise<void> {
  // Whichever fails first decides. The other one must not go on writing to the client.
  answer.catch(() => undefined);
  try {
    await Promise.race([upload, answer.then(() => upload)]);
  } catch (error) {
    guest.destroy();
    await answer.catch(() => undefined);
    throw error;
  }
  await answer;
}
