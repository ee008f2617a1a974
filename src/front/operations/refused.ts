import { decodeAddIndirectRoot, Op, type RequestDecoder } from '../../protocol/operations.js';
import { MAX_MESSAGE_BYTES, MAX_SHORT_STRING_BYTES } from '../../protocol/limits.js';
import { decodeStorePath, decodeStorePaths } from '../../protocol/store-path.js';
import { bounded, string, u64, type Decoder } from '../../protocol/wire.js';
import { FramedInput } from '../framed-input.js';
import { refuse, refusedForGood } from '../refusals.js';
import type { OperationContext } from './context.js';

type Serve = (context: OperationContext, op: number) => Promise<void>;

function refused(request: RequestDecoder<unknown> | undefined, why: string, advice: string): Serve {
  return async (context, op) => {
    if (request !== undefined) await context.client.run(request(context.version));
    await refuse(context, op, { why, advice });
  };
}

/** For requests with no known end: the session ends with them. */
function refusedWithSession(why: string, advice: string): Serve {
  return (context, op) => Promise.reject(refusedForGood(context, op, { why, advice }));
}

function* collectGarbage(): Decoder<void> {
  yield* u64(); // action
  yield* decodeStorePaths();
  for (let i = 0; i < 5; i++) yield* u64(); // liveness, limit, and three that are obsolete
}

function* permRoot(): Decoder<void> {
  yield* decodeStorePath();
  yield* string(MAX_SHORT_STRING_BYTES);
}

function* twoFlags(): Decoder<void> {
  yield* u64();
  yield* u64();
}

const GUEST_STORE = "a guest's store is the host's, and whatever is its own ends with it";
const ROOTS =
  'a root that is made here would keep nothing: guests are thrown away, and the host has roots of its own';
const ROOT_ADVICE = 'Copy what you want to keep to a store of yours, and make the root there';

const OBSOLETE = refusedWithSession(
  'it is obsolete, and no client of protocol 1.32 or later sends it',
  'Use Nix 2.4 or later on the client',
);
const INSIDE_BUILDS = refusedWithSession(
  'only a build may ask for it, and only of the daemon in its own guest',
  'See the experimental feature builder-rpc in the manual of Nix',
);

async function refuseBuildLog(context: OperationContext, op: number): Promise<void> {
  const { client } = context;
  await client.run(string(MAX_SHORT_STRING_BYTES));
  await refuse(context, op, {
    why: 'the log would be thrown away with a guest',
    advice: 'Copy it to the store that is to keep it: nix store copy-log --to STORE',
  });
  await new FramedInput(client).drain();
}

/** Operations that no client is served. */
export const REFUSALS: readonly (readonly [number, Serve])[] = [
  [
    Op.CollectGarbage,
    refused(
      () => bounded(collectGarbage(), MAX_MESSAGE_BYTES),
      GUEST_STORE,
      'To collect garbage, run the same on the Drover host, without --store',
    ),
  ],
  [
    Op.OptimiseStore,
    refused(
      undefined,
      GUEST_STORE,
      'To optimise the store, run the same on the Drover host, without --store',
    ),
  ],
  [
    Op.VerifyStore,
    refused(twoFlags, GUEST_STORE, 'To verify the store, run the same on the Drover host, without --store'),
  ],
  [Op.AddIndirectRoot, refused(decodeAddIndirectRoot, ROOTS, ROOT_ADVICE)],
  [Op.AddPermRoot, refused(() => bounded(permRoot(), MAX_MESSAGE_BYTES), ROOTS, ROOT_ADVICE)],
  [Op.AddBuildLog, refuseBuildLog],
  ...[
    ...[Op.HasSubstitutes, Op.QueryPathHash, Op.QueryReferences, Op.AddTextToStore, Op.ExportPath],
    ...[Op.ImportPaths, Op.QueryFailedPaths, Op.ClearFailedPaths],
  ].map((op) => [op, OBSOLETE] as const),
  [Op.SubmitOutput, INSIDE_BUILDS],
  [Op.AddToStoreScanning, INSIDE_BUILDS],
];
