import { errorCode, errorMessage } from '../../lib/errors.js';
import { Op, decodeQueryDerivationOutputMap, type RequestDecoder } from '../../protocol/operations.js';
import * as questions from '../../protocol/questions.js';
import {
  decodeOutputMapResponse,
  decodeStorePathsResponse,
  encodeOutputMapResponse,
  encodeStorePathsResponse,
} from '../../protocol/responses.js';
import { encodeErrorFrame } from '../../protocol/stderr.js';
import type { StorePath } from '../../protocol/store-path.js';
import { FEATURE_REALISATION_WITH_PATH, type ProtocolVersion } from '../../protocol/version.js';
import type { Decoder } from '../../protocol/wire.js';
import { answer, capture, encodeOp } from '../relay.js';
import { refuse, trustAdvice } from '../refusals.js';
import type { OperationContext } from './context.js';

/*
 * Queries that the host's store and the session's guest each answer in part. They take no new guest. The host
 * answers for paths that it shares with a guest: it may have lost them since.
 */

type Serve = (context: OperationContext, op: number) => Promise<void>;
type Response<T> = (version: ProtocolVersion) => Decoder<T>;

/** An answer with its bytes, or the error that came in its place. */
type Answer<T> = { readonly value: T; readonly raw: readonly Uint8Array[] } | { readonly refused: string };

const PATHS: Response<StorePath[]> = () => decodeStorePathsResponse();

/** Both stores' paths together. */
async function answerUnion(context: OperationContext, raw: readonly Uint8Array[]): Promise<void> {
  const { client } = context;
  const ours = await askHost(context, raw, PATHS);
  if ('refused' in ours) {
    await client.write(encodeErrorFrame(ours.refused));
    return;
  }
  const theirs = await askGuest(context, raw, PATHS, (paths, isShared) =>
    paths.filter((path) => !isShared(path)),
  );
  const own = theirs === undefined || 'refused' in theirs ? [] : theirs.value;
  await answer(client, encodeStorePathsResponse([...new Set([...ours.value, ...own])].sort()));
}

/** The host's answer if it knows one, else the guest's. */
function either<T>(
  request: RequestDecoder<unknown>,
  response: Response<T>,
  knows: (value: T) => boolean = () => true,
  canAsk: (host: ProtocolVersion, client: ProtocolVersion) => boolean = () => true,
): Serve {
  return async (context, op) => {
    const { client, host, version } = context;
    const { raw } = await capture(client, op, request(version));
    const comparable = canAsk(await host.store.version(), version);
    const ours = comparable ? await askHost(context, raw, response) : undefined;
    const known = ours !== undefined && 'value' in ours && knows(ours.value);
    const theirs = known ? undefined : await askGuest(context, raw, response);
    const best = theirs !== undefined && ('value' in theirs || ours === undefined) ? theirs : ours;
    await pass(context, best ?? { refused: 'drover: no store could be asked' });
  };
}

/** The host's answer: a guest has nothing to add. */
function hostOnly(request: RequestDecoder<unknown> | undefined, response: Response<unknown>): Serve {
  return async (context, op) => {
    const { client, version } = context;
    const raw = request === undefined ? [encodeOp(op)] : (await capture(client, op, request(version))).raw;
    await pass(context, await askHost(context, raw, response));
  };
}

async function pass({ client }: OperationContext, answered: Answer<unknown>): Promise<void> {
  if ('refused' in answered) await client.write(encodeErrorFrame(answered.refused));
  else await answer(client, Buffer.concat(answered.raw));
}

async function askHost<T>(
  { host }: OperationContext,
  raw: readonly Uint8Array[],
  response: Response<T>,
): Promise<Answer<T>> {
  return await orRefused(host.store.ask(raw, response));
}

/** @returns undefined if the session has no guest */
async function askGuest<T>(
  { placement }: OperationContext,
  raw: readonly Uint8Array[],
  response: Response<T>,
  own: (value: T, isShared: (path: StorePath) => boolean) => T = (value) => value,
): Promise<Answer<T> | undefined> {
  return await placement.ask(async ({ daemon, guest }) => {
    const answered = await orRefused(daemon.ask(raw, response));
    if ('refused' in answered) return answered;
    placement.results.noteAnswered();
    return { ...answered, value: own(answered.value, (path) => guest.store.sharesAnyOf([path])) };
  });
}

async function orRefused<T>(asked: Promise<{ value: T; raw: readonly Uint8Array[] }>): Promise<Answer<T>> {
  try {
    return await asked;
  } catch (error) {
    if (errorCode(error) !== 'PROTOCOL_REMOTE_ERROR') throw error;
    return { refused: errorMessage(error) };
  }
}

/** QueryAllValidPaths. A list of all that the host has is not for every client. */
export async function serveAllValidPaths(context: OperationContext, op: number): Promise<void> {
  if (context.identity.trusted) await answerUnion(context, [encodeOp(op)]);
  else await refuseList(context, op, "it lists all of the host's store");
}

/** QueryReferrers. From one path that every client knows, such as the C library, it leads to all others of the host. */
async function serveReferrers(context: OperationContext, op: number): Promise<void> {
  const { raw } = await capture(context.client, op, questions.decodePathQuestion(context.version));
  if (context.identity.trusted) await answerUnion(context, raw);
  else await refuseList(context, op, "it lists paths of the host's store that the client has not named");
}

async function serveValidDerivers(context: OperationContext, op: number): Promise<void> {
  const { raw } = await capture(context.client, op, questions.decodePathQuestion(context.version));
  await answerUnion(context, raw);
}

async function refuseList(context: OperationContext, op: number, what: string): Promise<void> {
  const advice = `Ask about single paths. ${trustAdvice(context.identity.name)}`;
  await refuse(context, op, { why: `${what}, which building does not take`, advice });
}

const answerRoots = hostOnly(undefined, () => questions.decodeRootsResponse());

/** FindRoots: the host's, since guests have none. They tell of files and processes of other users. */
export async function serveFindRoots(context: OperationContext, op: number): Promise<void> {
  if (context.identity.trusted) {
    await answerRoots(context, op);
    return;
  }
  const why = 'roots tell of files and processes of the host';
  await refuse(context, op, { why, advice: trustAdvice(context.identity.name) });
}

/** QueryDerivationOutputMap. What a derivation's output turned out to be may be known to one store only. */
export async function serveDerivationOutputMap(context: OperationContext, op: number): Promise<void> {
  const { client, version } = context;
  const { raw } = await capture(client, op, decodeQueryDerivationOutputMap(version));
  const response = (): Decoder<Map<string, StorePath | undefined>> => decodeOutputMapResponse();
  const ours = await askHost(context, raw, response);
  const complete = 'value' in ours && [...ours.value.values()].every((path) => path !== undefined);
  const theirs = complete ? undefined : await askGuest(context, raw, response);
  if (theirs === undefined || 'refused' in theirs) await pass(context, ours);
  else if ('refused' in ours) await pass(context, theirs);
  else {
    const merged = new Map(theirs.value);
    for (const [name, path] of ours.value) if (path !== undefined) merged.set(name, path);
    await answer(client, encodeOutputMapResponse(merged));
  }
}

/** Whether both speak of realisations in the same way. */
function sameRealisations({ features: a }: ProtocolVersion, { features: b }: ProtocolVersion): boolean {
  return a.has(FEATURE_REALISATION_WITH_PATH) === b.has(FEATURE_REALISATION_WITH_PATH);
}

export const QUESTIONS: readonly (readonly [number, Serve])[] = [
  [Op.QueryReferrers, serveReferrers],
  [Op.QueryValidDerivers, serveValidDerivers],
  [Op.QueryDerivationOutputs, either(questions.decodePathQuestion, PATHS)],
  [
    Op.QueryDerivationOutputNames,
    either(questions.decodePathQuestion, () => questions.decodeNamesResponse()),
  ],
  [Op.QueryDeriver, either(questions.decodePathQuestion, () => questions.decodeOptionalPathResponse())],
  [
    Op.QueryPathFromHashPart,
    either(
      questions.decodeHashPartQuestion,
      () => questions.decodeOptionalPathResponse(),
      (path) => path !== undefined,
    ),
  ],
  [
    Op.QueryRealisation,
    either(
      questions.decodeRealisationQuestion,
      (version) => questions.decodeRealisationResponse(version),
      (realisation) => realisation !== undefined,
      sameRealisations,
    ),
  ],
  [Op.QuerySubstitutablePaths, hostOnly(questions.decodePathsQuestion, PATHS)],
  [
    Op.QuerySubstitutablePathInfo,
    hostOnly(questions.decodePathQuestion, () => questions.decodeSubstitutableInfoResponse()),
  ],
  [
    Op.QuerySubstitutablePathInfos,
    hostOnly(questions.decodeSubstitutablePathInfosQuestion, () =>
      questions.decodeSubstitutableInfosResponse(),
    ),
  ],
];
