import { Duplex } from 'node:stream';

import { describe, expect, test } from '@jest/globals';

import { WorkerClient } from '../../../src/daemon/worker-client.js';
import {
  encodeIsValidPath,
  encodeQueryPathInfo,
  encodeQueryValidPaths,
  encodeSetOptions,
} from '../../../src/protocol/operations.js';
import { LATEST_VERSION } from '../../../src/protocol/version.js';
import { buildRequest, BUILT } from '../../support/build-request.js';
import { connectedPair } from '../../support/connected-pair.js';
import { settled } from '../../support/fake-clock.js';
import { BenchGuest, FrontBench } from '../../support/front-bench.js';
import { FUZZ_CASES, FUZZ_SEED, mutated, pieces, random, type Random } from '../../support/fuzz.js';
import { LAST, pathInfo, ScriptedDaemon, storePath, VERSION } from '../../support/scripted-daemon.js';
import { within } from '../../support/wait.js';
import { Op } from '../../../src/protocol/operations.js';

const IDENTITIES = [
  { door: 'socket', domain: 'uid:0', name: 'uid 0', trusted: true },
  { door: 'ssh', domain: 'key:SHA256:x', name: 'x', trusted: false },
] as const;

/** A client's bytes in a session with a build. */
async function recordedSession(): Promise<Buffer> {
  const bench = benchThatBuilds(() => new ScriptedDaemon());
  const sent: Buffer[] = [];
  const [client, server] = connectedPair();
  const spied = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      sent.push(Buffer.from(chunk));
      client.write(chunk, done);
    },
    final: (done) => void client.end(done),
  });
  client.on('data', (chunk) => spied.push(chunk));
  client.once('end', () => spied.push(null));
  const served = bench.front.serve(server, IDENTITIES[0]);
  const worker = await WorkerClient.connect(spied, VERSION, 'The front');
  await worker.channel.write(
    encodeSetOptions({
      ...{ keepFailed: false, keepGoing: false, tryFallback: false, verbosity: 3, maxBuildJobs: 1 },
      ...{ maxSilentTime: 0, verboseBuild: true, buildCores: 0, useSubstitutes: false },
      overrides: new Map([['cores', '2']]),
    }),
  );
  for (const request of [
    encodeQueryValidPaths({ paths: [storePath('input')], substitute: false }),
    encodeIsValidPath(storePath('input')),
    encodeQueryPathInfo(storePath('input')),
    buildRequest({ inputs: [storePath('input')] }),
  ])
    await worker.channel.write(request);
  worker.channel.end();
  await served;
  return Buffer.concat(sent);
}

function benchThatBuilds(
  daemon: () => ScriptedDaemon,
  through: (stream: Duplex) => Duplex = (stream) => stream,
): FrontBench {
  const host = new ScriptedDaemon();
  host.paths.set(storePath('input'), { info: pathInfo(storePath('input')), nar: Buffer.alloc(0) });
  const bench = new FrontBench({
    connect: () => WorkerClient.connect(through(host.connect()), LATEST_VERSION, "The host's nix-daemon"),
  });
  bench.leaser.next = () => {
    const guest = new BenchGuest(`g${bench.leaser.granted + 1}`);
    const own = daemon();
    own.handlers.set(Op.BuildDerivation, async (channel) => {
      await channel.write(Buffer.concat([LAST, BUILT]));
    });
    guest.openDaemon = () => Promise.resolve(through(own.connect()));
    return guest;
  };
  return bench;
}

/** Sends the bytes as a client that reads everything and then leaves. */
async function attack(bench: FrontBench, bytes: Buffer, next: Random): Promise<void> {
  const [client, server] = connectedPair();
  client.on('error', () => undefined).resume();
  const served = bench.front.serve(server, IDENTITIES[next(2)] ?? IDENTITIES[0]);
  for (const piece of pieces(bytes, next)) client.write(piece);
  if (next(4) === 0) client.destroy();
  else client.end();
  await within('the end of the session', served);
  client.destroy();
}

/** Passes what the other side sends on with changes, now and then. */
function garbled(stream: Duplex, next: Random): Duplex {
  const spoiled = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => void stream.write(chunk, done),
    final: (done) => void stream.end(done),
    destroy: (error, done) => {
      stream.destroy();
      done(error);
    },
  });
  stream.on('data', (chunk: Buffer) => {
    spoiled.push(next(4) === 0 ? mutated(chunk, next) : chunk);
  });
  stream.once('end', () => spoiled.push(null));
  stream.once('close', () => spoiled.destroy());
  stream.on('error', () => undefined);
  return spoiled;
}

describe(`the worker protocol with mutated peers (seed ${FUZZ_SEED})`, () => {
  test('no client ends more than its session', async () => {
    const next = random(FUZZ_SEED);
    const session = await recordedSession();
    for (let index = 0; index < FUZZ_CASES; index++) {
      const bench = benchThatBuilds(() => new ScriptedDaemon());
      await attack(bench, mutated(session, next), next);
      expect({ sessions: bench.front.sessions, held: bench.leaser.held }).toEqual({ sessions: 0, held: 0 });
    }
  });

  test("neither daemon, the host's or a guest's, ends more than sessions", async () => {
    const next = random(FUZZ_SEED + 1);
    const session = await recordedSession();
    for (let index = 0; index < FUZZ_CASES; index++) {
      const bench = benchThatBuilds(
        () => new ScriptedDaemon(),
        (stream) => garbled(stream, next),
      );
      const [client, server] = connectedPair();
      client.on('error', () => undefined).resume();
      const served = bench.front.serve(server, IDENTITIES[0]);
      client.end(session);
      // A daemon that says nothing more is given up on after a while.
      let isOver = false as boolean;
      void served.then(() => (isOver = true));
      while (!isOver) {
        await bench.clock.advance(60_000);
        await settled();
      }
      client.destroy();
      expect({ sessions: bench.front.sessions, held: bench.leaser.held }).toEqual({ sessions: 0, held: 0 });
    }
  });
});
