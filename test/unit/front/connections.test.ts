import { expect, test } from '@jest/globals';

import {
  decodeBuildDerivation,
  encodeQueryValidPaths,
  encodeSetOptions,
  Op,
} from '../../../src/protocol/operations.js';
import { decodeBuildDerivationResponse, decodeStorePathsResponse } from '../../../src/protocol/responses.js';
import { encodeFrame, encodeFrameEnd } from '../../../src/protocol/framed.js';
import { encodeAddToStoreNar } from '../../../src/protocol/data-requests.js';
import { BUILT, buildRequest } from '../../support/build-request.js';
import { settled } from '../../support/fake-clock.js';
import { BenchGuest, FrontBench, outcome } from '../../support/front-bench.js';
import { NAR } from '../../support/nar.js';
import { LAST, pathInfo, storePath, VERSION } from '../../support/scripted-daemon.js';

type Connection = Awaited<ReturnType<FrontBench['client']>>;

/** One guest for all sessions, which builds at once. */
function benchWithOne(): { bench: FrontBench; guest: BenchGuest } {
  const guest = new BenchGuest('g1');
  guest.daemon.handlers.set(Op.BuildDerivation, async (daemon, version) => {
    await daemon.run(decodeBuildDerivation(version));
    await daemon.write(Buffer.concat([LAST, BUILT]));
  });
  const bench = new FrontBench();
  bench.leaser.next = () => guest;
  return { bench, guest };
}

async function build({ channel }: Connection): Promise<void> {
  await channel.write(buildRequest());
  expect(await outcome(channel)).toBeUndefined();
  await channel.run(decodeBuildDerivationResponse(VERSION));
}

async function leave({ stream, served }: Connection): Promise<void> {
  stream.end();
  await served;
}

test('a session leaves its connection to the guest to the next session', async () => {
  const { bench, guest } = benchWithOne();
  for (let i = 0; i < 3; i++) {
    const connection = await bench.client();
    await build(connection);
    await connection.channel.write(encodeQueryValidPaths({ paths: [storePath('a')], substitute: false }));
    expect(await outcome(connection.channel)).toBeUndefined();
    expect(await connection.channel.run(decodeStorePathsResponse())).toEqual([]);
    await leave(connection);
  }
  expect(guest.daemon.connections).toBe(1);
  expect(bench.leaser.held).toBe(0);
});

test('concurrent sessions have one connection each, and as many are kept', async () => {
  const { bench, guest } = benchWithOne();
  for (let i = 0; i < 2; i++) {
    const both = [await bench.client(), await bench.client()];
    for (const connection of both) await build(connection);
    for (const connection of both) await leave(connection);
  }
  expect(guest.daemon.connections).toBe(2);
});

test('a connection that has ended is not reused', async () => {
  const { bench, guest } = benchWithOne();
  const first = await bench.client();
  await build(first);
  await leave(first);
  guest.daemon.die();
  await settled();
  const second = await bench.client();
  await build(second);
  expect(guest.daemon.connections).toBe(2);
});

test('a connection is not kept if its client has changed settings or uploaded a path', async () => {
  const { bench, guest } = benchWithOne();
  const settings = await bench.client();
  await settings.channel.write(
    encodeSetOptions({
      keepFailed: false,
      keepGoing: false,
      tryFallback: false,
      verbosity: 0,
      maxBuildJobs: 1,
      maxSilentTime: 0,
      verboseBuild: false,
      buildCores: 0,
      useSubstitutes: false,
      overrides: new Map(),
    }),
  );
  expect(await outcome(settings.channel)).toBeUndefined();
  await build(settings);
  await leave(settings);
  const upload = await bench.client();
  const info = pathInfo(storePath('uploaded'));
  await upload.channel.write(
    Buffer.concat([
      encodeAddToStoreNar({ info, repair: false, dontCheckSignatures: true }),
      encodeFrame(NAR),
      encodeFrameEnd(),
    ]),
  );
  expect(await outcome(upload.channel)).toBeUndefined();
  await leave(upload);
  await leave(await bench.client().then(async (last) => (await build(last), last)));
  expect(guest.daemon.connections).toBe(3);
});

test('a build whose client has left is not started', async () => {
  const { bench, guest } = benchWithOne();
  const connection = await bench.client();
  await connection.channel.write(buildRequest());
  connection.stream.destroy();
  await connection.served;
  expect(guest.daemon.asked).toEqual([]);
  expect(bench.leaser.held).toBe(0);
});
