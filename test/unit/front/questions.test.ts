import { describe, expect, test } from '@jest/globals';

import type { Channel } from '../../../src/daemon/channel.js';
import { encodeFrame, encodeFrameEnd } from '../../../src/protocol/framed.js';
import { encodeQueryPathInfo, encodeQueryValidPaths, Op } from '../../../src/protocol/operations.js';
import {
  decodeDoneResponse,
  decodeOutputMapResponse,
  decodePathInfoResponse,
  decodeStorePathsResponse,
  encodeDoneResponse,
  encodeOutputMapResponse,
  encodeStorePathsResponse,
} from '../../../src/protocol/responses.js';
import { encodeErrorFrame } from '../../../src/protocol/stderr.js';
import {
  decodeOptionalStorePath,
  decodeStorePath,
  type StorePath,
} from '../../../src/protocol/store-path.js';
import { encodeAddToStoreNar } from '../../../src/protocol/data-requests.js';
import { string, strings, type Decoder } from '../../../src/protocol/wire.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { buildRequest, BUILT } from '../../support/build-request.js';
import { NAR } from '../../support/nar.js';
import { BenchGuest, FrontBench, outcome } from '../../support/front-bench.js';
import {
  LAST,
  pathInfo,
  storePath,
  VERSION,
  type Handler,
  type ScriptedDaemon,
} from '../../support/scripted-daemon.js';

/** A daemon's answers, by the text of the query; any other query is an error. */
function knows<T>(
  daemon: ScriptedDaemon,
  op: number,
  question: Decoder<T> | (() => Decoder<T>),
  answers: (asked: T) => Uint8Array | undefined,
): void {
  const handler: Handler = async (channel) => {
    const asked = await channel.run(typeof question === 'function' ? question() : question);
    const known = answers(asked);
    await channel.write(known === undefined ? encodeErrorFrame('no idea') : Buffer.concat([LAST, known]));
  };
  daemon.handlers.set(op, handler);
}

interface Seated {
  readonly bench: FrontBench;
  readonly guest: BenchGuest;
  readonly channel: Channel;
}

/** A session that has uploaded something, so that it has a guest. */
async function seated(inputs: readonly StorePath[] = []): Promise<Seated> {
  const guest = new BenchGuest('g1');
  guest.daemon.handlers.set(Op.BuildDerivation, async (daemon) => {
    await daemon.readSome();
    await daemon.write(Buffer.concat([LAST, BUILT]));
  });
  const bench = new FrontBench();
  bench.leaser.next = () => guest;
  for (const path of inputs)
    bench.hostDaemon.paths.set(path, { info: pathInfo(path), nar: Buffer.alloc(112) });
  const { channel } = await bench.client();
  await channel.write(buildRequest({ inputs }));
  expect(await outcome(channel)).toBeUndefined();
  await channel.run(
    (function* () {
      for (let left = BUILT.length; left > 0; left -= 8) yield 8;
    })(),
  );
  return { bench, guest, channel };
}

async function ask<T>(channel: Channel, request: Uint8Array, response: Decoder<T>): Promise<T | string> {
  await channel.write(request);
  return (await outcome(channel)) ?? (await channel.run(response));
}

const onePath = (op: number, path: string): Buffer => new WireWriter().u64(op).string(path).finish();
const [a, b, c] = [storePath('a'), storePath('b'), storePath('c')] as const;

describe('a question about relations of paths', () => {
  test.each([
    ['QueryReferrers', Op.QueryReferrers],
    ['QueryValidDerivers', Op.QueryValidDerivers],
  ])('%s is answered with what host and guest know together', async (_name, op) => {
    const shared = storePath('shared');
    const { bench, guest, channel } = await seated([shared]);
    knows(
      bench.hostDaemon,
      op,
      () => decodeStorePath(),
      () => encodeStorePathsResponse([a, b]),
    );
    // The guest was once given a path that the host has lost since.
    knows(
      guest.daemon,
      op,
      () => decodeStorePath(),
      () => encodeStorePathsResponse([b, c, shared]),
    );
    expect(await ask(channel, onePath(op, a), decodeStorePathsResponse())).toEqual([a, b, c].sort());
  });

  test('QueryReferrers takes no guest', async () => {
    const bench = new FrontBench();
    knows(
      bench.hostDaemon,
      Op.QueryReferrers,
      () => decodeStorePath(),
      () => encodeStorePathsResponse([a]),
    );
    const { channel } = await bench.client();
    expect(await ask(channel, onePath(Op.QueryReferrers, b), decodeStorePathsResponse())).toEqual([a]);
    expect(bench.leaser.granted).toBe(0);
  });

  test('QueryAllValidPaths lists the host and what the guest has of its own', async () => {
    const shared = storePath('shared');
    const { bench, guest, channel } = await seated([shared]);
    bench.hostDaemon.handlers.set(Op.QueryAllValidPaths, (daemon) =>
      daemon.write(Buffer.concat([LAST, encodeStorePathsResponse([a])])),
    );
    guest.daemon.handlers.set(Op.QueryAllValidPaths, (daemon) =>
      daemon.write(Buffer.concat([LAST, encodeStorePathsResponse([shared, b])])),
    );
    const request = new WireWriter().u64(Op.QueryAllValidPaths).finish();
    expect(await ask(channel, request, decodeStorePathsResponse())).toEqual([a, b].sort());
  });
});

describe('a question that one store can answer', () => {
  const optional = (path?: string): Buffer => new WireWriter().string(path ?? '').finish();

  test('QueryPathFromHashPart is answered by whichever store has the path', async () => {
    const { bench, guest, channel } = await seated();
    const hashPart = (path: string): string => path.slice(11, 43);
    const has = (path: string) => (asked: string) => optional(asked === hashPart(path) ? path : undefined);
    knows(bench.hostDaemon, Op.QueryPathFromHashPart, () => string(), has(a));
    knows(guest.daemon, Op.QueryPathFromHashPart, () => string(), has(b));
    for (const [wanted, found] of [
      [a, a],
      [b, b],
      [c, undefined],
    ] as const) {
      const request = onePath(Op.QueryPathFromHashPart, hashPart(wanted));
      expect(await ask(channel, request, decodeOptionalStorePath())).toBe(found);
    }
  });

  test.each([
    ['QueryDeriver', Op.QueryDeriver, optional(a), () => decodeOptionalStorePath(), a],
    [
      'QueryDerivationOutputs',
      Op.QueryDerivationOutputs,
      encodeStorePathsResponse([a]),
      () => decodeStorePathsResponse(),
      [a],
    ],
    [
      'QueryDerivationOutputNames',
      Op.QueryDerivationOutputNames,
      new WireWriter().strings(['out']).finish(),
      () => strings(),
      ['out'],
    ],
  ])(
    '%s comes from the store that has the path, and fails in its words where none has',
    async (_name, op, known, decode, value) => {
      const { bench, guest, channel } = await seated();
      const response = decode as () => Decoder<unknown>;
      knows(
        bench.hostDaemon,
        op,
        () => decodeStorePath(),
        (asked) => (asked === a ? known : undefined),
      );
      knows(
        guest.daemon,
        op,
        () => decodeStorePath(),
        (asked) => (asked === b ? known : undefined),
      );
      expect(await ask(channel, onePath(op, a), response())).toEqual(value);
      expect(await ask(channel, onePath(op, b), response())).toEqual(value);
      expect(await ask(channel, onePath(op, c), response())).toContain('no idea');
    },
  );

  test('QueryDerivationOutputMap fills in from the guest what the host does not know yet', async () => {
    const { bench, guest, channel } = await seated();
    const map = (out?: string, dev?: string): Buffer =>
      encodeOutputMapResponse(
        new Map([
          ['out', out],
          ['dev', dev],
        ]),
      );
    knows(
      bench.hostDaemon,
      Op.QueryDerivationOutputMap,
      () => decodeStorePath(),
      () => map(a),
    );
    knows(
      guest.daemon,
      Op.QueryDerivationOutputMap,
      () => decodeStorePath(),
      () => map(b, c),
    );
    const request = onePath(Op.QueryDerivationOutputMap, storePath('x.drv'));
    const found = await ask(channel, request, decodeOutputMapResponse());
    expect(Object.fromEntries(found as Map<string, string>)).toEqual({ out: a, dev: c });
  });
});

describe('QueryPathInfo', () => {
  const info = pathInfo(a, { signatures: ['k:s'], narHash: 'c'.repeat(64) });

  test('shows the record of the host, with signatures, of a path that the guest shares', async () => {
    const { bench, guest, channel } = await seated([a]);
    guest.daemon.paths.set(a, { info: pathInfo(a), nar: Buffer.alloc(112) });
    bench.hostDaemon.paths.set(a, { info, nar: Buffer.alloc(112) });
    const found = await ask(channel, encodeQueryPathInfo(a), decodePathInfoResponse(VERSION));
    expect(found).toMatchObject({ signatures: ['k:s'], narHash: info.narHash });
  });

  test('shows it, too, of a path that the guest has built with the same contents', async () => {
    const { bench, guest, channel } = await seated();
    guest.daemon.paths.set(a, { info: { ...info, signatures: [] }, nar: Buffer.alloc(112) });
    bench.hostDaemon.paths.set(a, { info, nar: Buffer.alloc(112) });
    expect(await ask(channel, encodeQueryPathInfo(a), decodePathInfoResponse(VERSION))).toMatchObject({
      signatures: ['k:s'],
    });
    guest.daemon.paths.set(b, { info: pathInfo(b), nar: Buffer.alloc(112) });
    bench.hostDaemon.paths.set(b, { info: { ...info, path: b }, nar: Buffer.alloc(112) });
    // NarFromPath would send what the guest has built.
    expect(await ask(channel, encodeQueryPathInfo(b), decodePathInfoResponse(VERSION))).toMatchObject({
      signatures: [],
      narHash: pathInfo(b).narHash,
    });
  });

  test('and QueryValidPaths know nothing of a shared path that the host has lost', async () => {
    const { bench, guest, channel } = await seated([a]);
    guest.daemon.paths.set(a, { info, nar: Buffer.alloc(112) });
    bench.hostDaemon.paths.delete(a);
    expect(await ask(channel, encodeQueryPathInfo(a), decodePathInfoResponse(VERSION))).toBeUndefined();
    const valid = encodeQueryValidPaths({ paths: [a], substitute: false });
    expect(await ask(channel, valid, decodeStorePathsResponse())).toEqual([]);
  });
});

describe('AddSignatures', () => {
  const request = (path: string): Buffer =>
    new WireWriter().u64(Op.AddSignatures).string(path).strings(['k:s']).finish();

  test("signs in the host's store what the host has", async () => {
    const bench = new FrontBench();
    bench.hostDaemon.paths.set(a, { info: pathInfo(a), nar: Buffer.alloc(112) });
    const signed: unknown[] = [];
    bench.hostDaemon.handlers.set(Op.AddSignatures, async (daemon) => {
      signed.push(await daemon.run(decodeStorePath()), await daemon.run(strings()));
      await daemon.write(Buffer.concat([LAST, encodeDoneResponse()]));
    });
    const { channel } = await bench.client();
    expect(await ask(channel, request(a), decodeDoneResponse())).toBeUndefined();
    expect(signed).toEqual([a, ['k:s']]);
    expect(bench.leaser.granted).toBe(0);
  });

  test('is refused where the signature would go with the guest', async () => {
    const { channel } = await seated();
    const add = encodeAddToStoreNar({ info: pathInfo(b), repair: false, dontCheckSignatures: true });
    for (const part of [add, encodeFrame(NAR), encodeFrameEnd()]) await channel.write(part);
    expect(await outcome(channel)).toBeUndefined();
    expect(await ask(channel, request(b), decodeDoneResponse())).toContain(
      'in a guest the signature would be thrown away',
    );
  });
});
