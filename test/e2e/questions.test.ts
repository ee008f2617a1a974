import { afterAll, beforeAll, expect, test } from '@jest/globals';

import { WorkerClient } from '../../src/daemon/worker-client.js';
import { spawnStream } from '../../src/lib/process.js';
import { connectUnixSocket } from '../../src/lib/unix-socket.js';
import {
  encodeAddTempRoot,
  encodeEnsurePath,
  encodeIsValidPath,
  encodeQueryDerivationOutputMap,
  encodeQueryMissing,
  encodeQueryPathInfo,
  encodeQueryValidPaths,
  Op,
} from '../../src/protocol/operations.js';
import { encodeFrame, encodeFrameEnd } from '../../src/protocol/framed.js';
import * as questions from '../../src/protocol/questions.js';
import * as responses from '../../src/protocol/responses.js';
import { parseStorePath, type StorePath } from '../../src/protocol/store-path.js';
import { LATEST_VERSION, type ProtocolVersion } from '../../src/protocol/version.js';
import { u64, type Decoder } from '../../src/protocol/wire.js';
import { WireWriter } from '../../src/protocol/wire-writer.js';
import { startDrover, type Drover } from '../support/drover.js';
import { NIX_DIRS, nixHost, succeeded, type NixHost, type NixVersion } from '../support/nix.js';
import { NAR } from '../support/nar.js';
import { describeE2e } from '../support/requirements.js';

type Response = (version: ProtocolVersion) => Decoder<unknown>;

/** One question: its request, and how its response is read. */
interface Question {
  readonly name: string;
  readonly request: Uint8Array;
  readonly response: Response;
}

/** The bytes of the response, or the error's text. */
async function answerOf(store: WorkerClient, { request, response }: Question): Promise<string> {
  try {
    const { raw } = await store.ask([request], response);
    return Buffer.concat(raw).toString('latin1');
  } catch (error) {
    // Versions of Nix colour it differently.
    return `error: ${(error as Error).message.replaceAll(/\\u001b\[[0-9;]*m|\u001b\[[0-9;]*m/g, '')}`;
  }
}

/** Every query with the same answer for all clients. */
function questionsAbout(
  path: StorePath,
  drv: StorePath,
  unknown: StorePath,
  version: ProtocolVersion,
): Question[] {
  const about = (op: number, text: string): Buffer => new WireWriter().u64(op).string(text).finish();
  const paths = (): Decoder<unknown> => responses.decodeStorePathsResponse();
  const optional = (): Decoder<unknown> => questions.decodeOptionalPathResponse();
  const ofPath = [path, drv, unknown].flatMap((subject): Question[] => [
    { name: 'IsValidPath', request: encodeIsValidPath(subject), response: responses.decodeBoolResponse },
    {
      name: 'QueryPathInfo',
      request: encodeQueryPathInfo(subject),
      response: responses.decodePathInfoResponse,
    },
    { name: 'QueryReferrers', request: about(Op.QueryReferrers, subject), response: paths },
    { name: 'QueryValidDerivers', request: about(Op.QueryValidDerivers, subject), response: paths },
    { name: 'QueryDeriver', request: about(Op.QueryDeriver, subject), response: optional },
    {
      name: 'QueryPathFromHashPart',
      request: about(Op.QueryPathFromHashPart, subject.slice(11, 43)),
      response: optional,
    },
    { name: 'AddTempRoot', request: encodeAddTempRoot(subject), response: responses.decodeDoneResponse },
    {
      name: 'QuerySubstitutablePathInfo',
      request: about(Op.QuerySubstitutablePathInfo, subject),
      response: () => questions.decodeSubstitutableInfoResponse(),
    },
  ]);
  const unknownDrv = parseStorePath(`${unknown}.drv`);
  const ofDerivation = [drv, unknownDrv].flatMap((subject): Question[] => [
    { name: 'QueryDerivationOutputs', request: about(Op.QueryDerivationOutputs, subject), response: paths },
    {
      name: 'QueryDerivationOutputNames',
      request: about(Op.QueryDerivationOutputNames, subject),
      response: () => questions.decodeNamesResponse(),
    },
    {
      name: 'QueryDerivationOutputMap',
      request: encodeQueryDerivationOutputMap(subject),
      response: () => responses.decodeOutputMapResponse(),
    },
  ]);
  return [
    ...ofPath,
    ...ofDerivation,
    {
      name: 'QueryValidPaths',
      request: encodeQueryValidPaths({ paths: [path, drv, unknown], substitute: false }),
      response: paths,
    },
    {
      name: 'QuerySubstitutablePaths',
      request: new WireWriter().u64(Op.QuerySubstitutablePaths).strings([path, unknown]).finish(),
      response: paths,
    },
    {
      name: 'QuerySubstitutablePathInfos',
      request: new WireWriter()
        .u64(Op.QuerySubstitutablePathInfos)
        .u64(1)
        .string(unknown)
        .string('')
        .finish(),
      response: () => questions.decodeSubstitutableInfosResponse(),
    },
    {
      name: 'QueryMissing',
      request: encodeQueryMissing([{ path, via: [] }], version),
      response: () => responses.decodeQueryMissingResponse(),
    },
    { name: 'EnsurePath', request: encodeEnsurePath(path), response: responses.decodeDoneResponse },
    { name: 'SyncWithGC', request: new WireWriter().u64(Op.SyncWithGC).finish(), response: u64 },
  ];
}

describeE2e('the socket door answers as a plain nix-daemon on the same store', ['modern-nix'], () => {
  const drovers = new Map<NixVersion, Drover>();
  beforeAll(async () => {
    for (const version of ['debian', 'modern'] as const)
      drovers.set(version, await startDrover({ nix: NIX_DIRS[version] }));
  });
  afterAll(async () => {
    for (const drover of drovers.values()) await drover[Symbol.asyncDispose]();
  });

  async function made(host: NixHost): Promise<{ path: StorePath; drv: StorePath; unknown: StorePath }> {
    const file = await host.writeFile(`${host.id}-source`, 'source');
    const source = succeeded(await host.run('nix-store', ['--add', file])).stdout.trim();
    const expression = host.derivation(
      'question',
      'echo $source > $out',
      `source = builtins.storePath "${source}";`,
    );
    const drv = succeeded(await host.run('nix-instantiate', ['-E', expression])).stdout.trim();
    const [output = ''] = succeeded(await host.build(expression)).outputs;
    expect(succeeded(await host.run('nix-store', ['-q', '--references', output])).stdout.trim()).toBe(source);
    const unknown = output.replace(/store\/.{8}/, 'store/00000000');
    return { path: parseStorePath(source), drv: parseStorePath(drv), unknown: parseStorePath(unknown) };
  }

  test.each(['debian', 'modern'] as const)(
    'with the Nix of %s, before and after it has a guest',
    async (version) => {
      const drover = drovers.get(version);
      if (drover === undefined) throw new Error('not started');
      await using host = await nixHost({ version, drover });
      const { path, drv, unknown } = await made(host);
      const stream = await spawnStream(`${NIX_DIRS[version]}/nix-daemon`, ['--stdio'], {
        ...process.env,
        NIX_CONFIG: 'substituters =',
      });
      await using plain = await WorkerClient.connect(stream, LATEST_VERSION, 'The plain nix-daemon');
      const socket = await connectUnixSocket((await drover.status()).doors.socket);
      await using door = await WorkerClient.connect(socket, LATEST_VERSION, 'The door');
      expect(door.version).toEqual(plain.version);
      const asked = questionsAbout(path, drv, unknown, door.version);
      const compare = async (some: readonly Question[]): Promise<void> => {
        for (const question of some) {
          const [expected, found] = [await answerOf(plain, question), await answerOf(door, question)];
          expect([question.name, found]).toEqual([question.name, expected]);
        }
      };
      const since = await drover.caughtUp();
      await compare(asked);
      await drover.caughtUp();
      expect(drover.events.of('lease-granted', since)).toEqual([]);

      // From now on the session has a guest, with a path of its own that refers to one of the host's.
      const add = new WireWriter().u64(Op.AddToStore).string(`e2e-${host.id}-own`).string('fixed:r:sha256');
      const upload = [add.strings([path]).bool(false).finish(), encodeFrame(NAR), encodeFrameEnd()];
      const { value } = await door.ask(upload, (agreed) => responses.decodeAddToStoreResponse(agreed));
      await drover.caughtUp();
      expect(drover.events.of('lease-granted', since)).toHaveLength(1);
      const referrers = new WireWriter().u64(Op.QueryReferrers).string(path).finish();
      await compare(asked.filter(({ request }) => !referrers.equals(request)));
      // Others use this store, too: only what this test has made is looked at.
      const all = new WireWriter().u64(Op.QueryAllValidPaths).finish();
      const listed = async (store: WorkerClient, request: Uint8Array): Promise<StorePath[]> => {
        const found = await store.ask([request], () => responses.decodeStorePathsResponse());
        return found.value.filter((one) => one.includes(host.id));
      };
      for (const request of [referrers, all]) {
        const ofHost = await listed(plain, request);
        expect(await listed(door, request)).toEqual([...ofHost, value.path].sort());
      }
    },
  );
});
