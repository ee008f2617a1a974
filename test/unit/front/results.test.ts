import { Readable } from 'node:stream';

import { describe, expect, test } from '@jest/globals';

import type { BuildStatus, BuiltOutput } from '../../../src/protocol/build-result.js';
import type { ValidPathInfo } from '../../../src/protocol/path-info.js';
import {
  decodeBuildDerivation,
  encodeIsValidPath,
  encodeNarFromPath,
  encodeQueryPathInfo,
  Op,
} from '../../../src/protocol/operations.js';
import {
  decodeBuildDerivationResponse,
  decodePathInfoResponse,
  encodeBuildDerivationResponse,
} from '../../../src/protocol/responses.js';
import { encodeStderrFrame } from '../../../src/protocol/stderr.js';
import { buildRequest } from '../../support/build-request.js';
import { settled } from '../../support/fake-clock.js';
import { BenchGuest, FrontBench, HOST_CLIENT, outcome } from '../../support/front-bench.js';
import { narFacts, narOf } from '../../support/nar.js';
import { LAST, pathInfo, storePath, VERSION, type Handler } from '../../support/scripted-daemon.js';

const OUTPUT = storePath('output');
/** No two places in it look alike. */
const NAR = narOf(Buffer.from(Array.from({ length: 40_000 }, (_, at) => String(at).padStart(8)).join('')));
const INFO = pathInfo(OUTPUT, narFacts(NAR));
const LOG_LINE = encodeStderrFrame({ kind: 'next', text: 'building\n' });

/** Output of a derivation whose outputs' paths depend on their content. */
const REALISED: BuiltOutput = {
  outputName: 'out',
  outPath: storePath('realised'),
  signatures: [],
};

/** Argument of a builder that fails everywhere. */
const FAILS = 'fail';

/** A guest whose build makes OUTPUT, as `info` has it. */
function guestThatBuilds(
  id: string,
  {
    info = INFO,
    status = 'Built',
    builtOutputs = [],
  }: { info?: ValidPathInfo; status?: BuildStatus; builtOutputs?: readonly BuiltOutput[] } = {},
): BenchGuest {
  const guest = new BenchGuest(id);
  guest.daemon.handlers.set(Op.BuildDerivation, async (daemon, version) => {
    const { derivation } = await daemon.run(decodeBuildDerivation(version));
    const became = derivation.args.includes(FAILS) ? 'MiscFailure' : status;
    if (became === 'Built') guest.daemon.paths.set(OUTPUT, { info, nar: NAR });
    const result = {
      status: became,
      errorMessage: became === 'Built' ? '' : 'it does not build any more',
      timesBuilt: 1,
      isNonDeterministic: false,
      startTime: 0,
      stopTime: 0,
      builtOutputs,
    };
    await daemon.write(Buffer.concat([LOG_LINE, LAST, encodeBuildDerivationResponse(result, VERSION)]));
  });
  return guest;
}

/** Sends this much of a NAR, and is lost. */
function losesItself(guest: BenchGuest, bytes: number): Handler {
  return async (daemon) => {
    await daemon.readSome();
    await daemon.write(Buffer.concat([LAST, NAR.subarray(0, bytes)]));
    await settled();
    guest.lose();
  };
}

function benchWith(...guests: BenchGuest[]): FrontBench {
  const bench = new FrontBench();
  const left = [...guests];
  bench.leaser.next = () => {
    const guest = left.shift();
    if (guest === undefined) throw new Error('no guest is left');
    return guest;
  };
  return bench;
}

/** A client that has been told that OUTPUT is built. */
async function built(
  bench: FrontBench,
  identity = HOST_CLIENT,
): Promise<Awaited<ReturnType<FrontBench['client']>>> {
  const connection = await bench.client(identity);
  await connection.channel.write(buildRequest({ output: OUTPUT }));
  expect(await outcome(connection.channel)).toBeUndefined();
  await connection.channel.run(decodeBuildDerivationResponse(VERSION));
  return connection;
}

type Client = Awaited<ReturnType<typeof built>>['channel'];

async function askInfo(channel: Client): Promise<string | undefined> {
  await channel.write(encodeQueryPathInfo(OUTPUT));
  const error = await outcome(channel);
  if (error !== undefined) return error;
  return (await channel.run(decodePathInfoResponse(VERSION)))?.narHash;
}

/** All that comes of a NAR. */
async function fetchNar(channel: Client): Promise<Buffer> {
  await channel.write(encodeNarFromPath(OUTPUT));
  expect(await outcome(channel)).toBeUndefined();
  const parts: Uint8Array[] = [];
  for (let left = NAR.length; left > 0;) {
    const some = await channel.readSome(left);
    if (some.length === 0) break;
    for (const part of some) {
      parts.push(part);
      left -= part.length;
    }
  }
  return Buffer.concat(parts);
}

describe('when a guest is lost that holds a result', () => {
  test('that is one of more than are remembered, the error is reported', async () => {
    const bench = benchWith(guestThatBuilds('g1'), guestThatBuilds('g2'));
    const { channel } = await built(bench);
    for (let time = 0; time < 2; time++) {
      await channel.write(buildRequest({ args: ['x'.repeat(40 * 1024 * 1024)] }));
      expect(await outcome(channel)).toBeUndefined();
      await channel.run(decodeBuildDerivationResponse(VERSION));
    }
    bench.leaser.guests[0]?.lose();
    expect(await askInfo(channel)).toContain('g1 was lost');
    expect(bench.leaser.granted).toBe(1);
  });

  test('before the client asks for it, it is built again and the client does not notice', async () => {
    const [first, second] = [guestThatBuilds('g1'), guestThatBuilds('g2')];
    const bench = benchWith(first, second);
    const { channel, stream, served } = await built(bench);
    first.lose();
    expect(await askInfo(channel)).toBe(INFO.narHash);
    expect(await fetchNar(channel)).toEqual(NAR);
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'lost' }]);
    expect(bench.events.filter(({ type }) => type === 'build-replayed')).toHaveLength(1);
    expect(bench.events.filter(({ type }) => type === 'build-finished')).toHaveLength(1);
    stream.destroy();
    await served;
    expect(bench.leaser.held).toBe(0);
  });

  test('in the middle of sending it, the client gets the rest from another one', async () => {
    const guests = [guestThatBuilds('g1'), guestThatBuilds('g2'), guestThatBuilds('g3')] as const;
    guests[0].daemon.handlers.set(Op.NarFromPath, losesItself(guests[0], 100_000));
    // It is lost before it has sent as much as the first one.
    guests[1].daemon.handlers.set(Op.NarFromPath, losesItself(guests[1], 50_000));
    const bench = benchWith(...guests);
    const { channel } = await built(bench);
    expect(await askInfo(channel)).toBe(INFO.narHash);
    expect(await fetchNar(channel)).toEqual(NAR);
    // The session goes on.
    await channel.write(encodeIsValidPath(OUTPUT));
    expect(await outcome(channel)).toBeUndefined();
  });

  test('and another one builds a different output, the error is reported', async () => {
    const first = guestThatBuilds('g1');
    const bench = benchWith(first, guestThatBuilds('g2', { info: { ...INFO, narHash: 'b'.repeat(64) } }));
    const { channel } = await built(bench);
    await askInfo(channel);
    first.lose();
    expect(await askInfo(channel)).toContain(
      `g1 was lost: unplugged; built again, ${OUTPUT} came out differently`,
    );
  });

  test('and another one builds a different output in the middle of sending it, the client is disconnected', async () => {
    const first = guestThatBuilds('g1');
    first.daemon.handlers.set(Op.NarFromPath, losesItself(first, 100_000));
    const bench = benchWith(first, guestThatBuilds('g2', { info: { ...INFO, narHash: 'b'.repeat(64) } }));
    const { channel, served } = await built(bench);
    expect(await fetchNar(channel)).toEqual(NAR.subarray(0, 100_000));
    await served;
    expect(bench.leaser.held).toBe(0);
  });

  test('a build that failed there is not repeated with it', async () => {
    const [first, second] = [guestThatBuilds('g1'), guestThatBuilds('g2')];
    const bench = benchWith(first, second);
    const { channel } = await built(bench);
    await channel.write(buildRequest({ args: [FAILS] }));
    expect(await outcome(channel)).toBeUndefined();
    expect((await channel.run(decodeBuildDerivationResponse(VERSION))).status).toBe('MiscFailure');
    first.lose();
    expect(await askInfo(channel)).toBe(INFO.narHash);
    expect(bench.events.filter((event) => event.type === 'build-finished')).toMatchObject([
      { result: 'Built', succeeded: true },
      { result: 'MiscFailure', succeeded: false },
    ]);
  });

  test('and it cannot be built again, the reason is reported', async () => {
    const first = guestThatBuilds('g1');
    const bench = benchWith(first, guestThatBuilds('g2', { status: 'MiscFailure' }));
    const { channel } = await built(bench);
    first.lose();
    expect(await askInfo(channel)).toContain('building again failed: it does not build any more');
  });

  test('and so are all others, the loss is reported to the client', async () => {
    const guests = ['g1', 'g2', 'g3'].map((id) => guestThatBuilds(id));
    for (const guest of guests.slice(1)) {
      guest.daemon.handlers.set(Op.BuildDerivation, () => {
        guest.lose();
        return Promise.resolve();
      });
    }
    const bench = benchWith(...guests);
    const { channel } = await built(bench);
    guests[0]?.lose();
    expect(await askInfo(channel)).toContain('g3 was lost: unplugged');
  });
});

describe('the lease of an idle session', () => {
  test('is kept while no other client waits, and while the client may still fetch its result', async () => {
    const bench = benchWith(guestThatBuilds('g1'));
    await built(bench);
    await settled();
    await bench.clock.advance(3_600_000);
    expect(bench.leaser.held).toBe(1);

    const wanted = benchWith(guestThatBuilds('g1'));
    wanted.leaser.wanted = true;
    await built(wanted);
    await settled();
    await wanted.clock.advance(29_000);
    expect(wanted.leaser.held).toBe(1);
  });

  test('goes to those that wait, and the result is built again for the client', async () => {
    const [g1, g2] = [guestThatBuilds('g1'), guestThatBuilds('g2')];
    const bench = benchWith(g1, g2);
    bench.leaser.wanted = true;
    const { channel } = await built(bench);
    expect(await askInfo(channel)).toBe(INFO.narHash);
    await settled();
    await bench.clock.advance(31_000);
    expect(bench.leaser.held).toBe(0);
    expect(bench.leaser.retired).toEqual([]);

    expect(await askInfo(channel)).toBe(INFO.narHash);
    expect(await fetchNar(channel)).toEqual(NAR);
    expect(bench.leaser).toMatchObject({ held: 1, granted: 2 });
  });

  test('is asked for again without regard to the limit of builds, since the build was admitted', async () => {
    const bench = benchWith(guestThatBuilds('g1'), guestThatBuilds('g2'));
    bench.leaser.wanted = true;
    const { channel } = await built(bench, { ...HOST_CLIENT, maxBuilds: 1 });
    await settled();
    await bench.clock.advance(31_000);
    expect(await askInfo(channel)).toBe(INFO.narHash);
    expect(bench.leaser.requests.map(({ maxBuilds }) => maxBuilds)).toEqual([1, undefined]);
  });

  test.each([
    ['its build had an input that the guest alone has', { inputs: [storePath('other')] }, []],
    ['its build made a path that no one could know before', {}, [REALISED]],
  ])('ends with the session, a minute later, where %s', async (_, request, builtOutputs) => {
    const bench = benchWith(guestThatBuilds('g1', { builtOutputs }));
    bench.leaser.wanted = true;
    const { channel, served } = await bench.client();
    await channel.write(buildRequest({ output: OUTPUT, ...request }));
    expect(await outcome(channel)).toBeUndefined();
    await channel.run(decodeBuildDerivationResponse(VERSION));
    await endsWhenIdle(bench, channel, served);
  });

  test('ends with the session where the client was told of what it has not built itself', async () => {
    const other = storePath('other');
    const g1 = guestThatBuilds('g1');
    const bench = benchWith(g1);
    bench.leaser.wanted = true;
    const { client, channel, served } = await built(bench);
    g1.daemon.paths.set(other, { info: pathInfo(other), nar: Buffer.alloc(0) });
    expect(await client.queryValidPaths([other])).toEqual([other]);
    await endsWhenIdle(bench, channel, served);
  });

  test('ends with the session where the client has uploaded a path', async () => {
    const bench = benchWith(guestThatBuilds('g1'));
    bench.leaser.wanted = true;
    const { client, channel, served } = await bench.client();
    await client.addToStoreNar(INFO, Readable.from([NAR]));
    await endsWhenIdle(bench, channel, served);
  });
});

/** Others wait, and cannot be kept waiting by a client that could not get the same from another guest. */
async function endsWhenIdle(bench: FrontBench, channel: Client, served: Promise<void>): Promise<void> {
  await settled();
  await bench.clock.advance(59_000);
  expect(bench.leaser.held).toBe(1);
  await bench.clock.advance(2_000);
  expect(await outcome(channel)).toContain('g1 was given to other clients while this one was idle');
  await served;
  expect(bench.leaser.held).toBe(0);
}
