import { generateKeyPairSync } from 'node:crypto';

import { expect, test } from '@jest/globals';

import type { WorkerClient } from '../../../src/daemon/worker-client.js';
import type { AuditRecord, AuditTrail } from '../../../src/front/audit.js';
import type { ClientIdentity } from '../../../src/front/identity.js';
import { DroverError } from '../../../src/lib/errors.js';
import { encodeFrame, encodeFrameEnd } from '../../../src/protocol/framed.js';
import { encodeQueryPathInfo, encodeSetOptions, Op } from '../../../src/protocol/operations.js';
import type { ValidPathInfo } from '../../../src/protocol/path-info.js';
import { decodeBuildDerivationResponse, decodePathInfoResponse } from '../../../src/protocol/responses.js';
import { isSigned, parseSecretKey, type PathSigner } from '../../../src/protocol/signature.js';
import { decodeAddToStoreNar, encodeAddToStoreNar } from '../../../src/protocol/data-requests.js';
import { BUILT, buildRequest } from '../../support/build-request.js';
import { BenchGuest, FrontBench, HOST_CLIENT, outcome, STRANGER } from '../../support/front-bench.js';
import { NAR, narFacts } from '../../support/nar.js';
import { drainFramed, LAST, pathInfo, storePath, VERSION } from '../../support/scripted-daemon.js';

const OUTPUT = storePath('output');

class Trail implements AuditTrail {
  readonly records: AuditRecord[] = [];
  broken = false;

  record(fields: AuditRecord): void {
    this.records.push(fields);
  }

  requireWritable(): void {
    if (this.broken) throw new DroverError('AUDIT_UNUSABLE', 'The disk is full');
  }
}

/** Builds the output, unless it uploads it: then it is not "ultimate". */
function builder(id = 'g1', facts: Partial<ValidPathInfo> = {}): BenchGuest {
  const guest = new BenchGuest(id);
  guest.daemon.handlers.set(Op.BuildDerivation, async (daemon) => {
    await daemon.readSome();
    const info = pathInfo(OUTPUT, { ...narFacts(NAR), ultimate: true, ...facts });
    guest.daemon.paths.set(OUTPUT, { info, nar: NAR });
    await daemon.write(Buffer.concat([LAST, BUILT]));
  });
  return guest;
}

function setOptions(overrides: Record<string, string>): Buffer {
  return encodeSetOptions({
    ...{ keepFailed: false, keepGoing: false, tryFallback: false, verbosity: 3, maxBuildJobs: 1 },
    ...{ maxSilentTime: 0, verboseBuild: true, buildCores: 0, useSubstitutes: false },
    overrides: new Map(Object.entries(overrides)),
  });
}

test('records who built what where, with the hashes of the outputs, and the session', async () => {
  const audit = new Trail();
  const bench = new FrontBench(undefined, undefined, undefined, { audit });
  const guest = builder();
  bench.leaser.next = () => guest;
  const { channel, stream, served } = await bench.client();
  await channel.write(buildRequest({ output: OUTPUT }));
  expect(await outcome(channel)).toBeUndefined();
  stream.destroy();
  await served;
  const client = { session: 1, door: 'socket', domain: 'uid:0', client: 'uid 0', trusted: true };
  expect(audit.records).toMatchObject([
    {
      ...client,
      type: 'build',
      build: 'b1',
      derivation: expect.stringMatching(/-thing\.drv$/) as unknown,
      guest: 'g1',
      image: 'test',
      result: 'Built',
      outputs: [{ path: OUTPUT, narHash: narFacts(NAR).narHash }],
    },
    { ...client, type: 'session', error: null },
  ]);
});

/** A client that has been told that its build has succeeded, in the first of these guests that can do it. */
async function clientOfBuild(bench: FrontBench, ...guests: BenchGuest[]): Promise<WorkerClient> {
  bench.leaser.next = () => guests.shift() ?? builder('spare');
  const { channel, client } = await bench.client();
  await channel.write(buildRequest({ output: OUTPUT }));
  expect(await outcome(channel)).toBeUndefined();
  await channel.run(decodeBuildDerivationResponse(VERSION));
  return client;
}

test('records what a build makes in each guest, where it is built again for its client', async () => {
  const audit = new Trail();
  const bench = new FrontBench(undefined, undefined, undefined, { audit });
  const [first, second] = [builder(), builder('g2', { narHash: 'b'.repeat(64) })];
  const client = await clientOfBuild(bench, first, second);
  first.lose();
  const [told] = await client.queryPathInfos([OUTPUT]);
  expect(told?.narHash).toBe('b'.repeat(64));
  expect(audit.records).toMatchObject([
    { build: 'b1', guest: 'g1', result: 'Built', outputs: [{ narHash: narFacts(NAR).narHash }] },
    { build: 'b1', guest: 'g2', result: 'Built', outputs: [{ narHash: 'b'.repeat(64) }] },
  ]);
});

test('answers once, although the guest is lost when it is asked what it has built', async () => {
  const audit = new Trail();
  const bench = new FrontBench(undefined, undefined, undefined, { audit });
  const [first, second] = [builder(), builder('g2')];
  first.daemon.handlers.set(Op.QueryPathInfo, () => {
    first.lose();
    return Promise.resolve();
  });
  const client = await clientOfBuild(bench, first, second);
  const [told] = await client.queryPathInfos([OUTPUT]);
  expect(told?.narHash).toBe(narFacts(NAR).narHash);
  expect(audit.records).toMatchObject([{ build: 'b1', guest: 'g2' }]);
});

test('records names of settings without their values, and what was refused, once', async () => {
  const audit = new Trail();
  const bench = new FrontBench(undefined, undefined, undefined, { audit });
  const { channel, stream, served } = await bench.client(STRANGER);
  for (let i = 0; i < 3; i++) {
    await channel.write(setOptions({ timeout: '7', 'access-tokens': 'secret', 'sand\u001bbox': 'false' }));
    expect(await outcome(channel)).toBeUndefined();
  }
  stream.destroy();
  await served;
  expect(audit.records.filter(({ type }) => type === 'settings')).toMatchObject([
    {
      domain: STRANGER.domain,
      asked: ['timeout', 'access-tokens', 'sand\\u001bbox'],
      refused: ['access-tokens', 'sand\\u001bbox'],
    },
  ]);
  expect(JSON.stringify(audit.records)).not.toContain('secret');
});

test('records operations that were refused', async () => {
  const audit = new Trail();
  const bench = new FrontBench(undefined, undefined, undefined, { audit });
  const { channel } = await bench.client();
  await channel.write(buildRequest({ mode: 'repair' }));
  expect(await outcome(channel)).toContain('BuildDerivation is refused');
  expect(audit.records).toMatchObject([{ type: 'refusal', operation: 'BuildDerivation' }]);
});

test('refuses builds while nothing can be recorded', async () => {
  const audit = new Trail();
  audit.broken = true;
  const bench = new FrontBench(undefined, undefined, undefined, { audit });
  const { channel } = await bench.client();
  await channel.write(buildRequest({ output: OUTPUT }));
  expect(await outcome(channel)).toContain('The disk is full');
  expect(bench.leaser.granted).toBe(0);
});

test.each<[string, ClientIdentity, boolean, boolean]>([
  ['a trusted client', HOST_CLIENT, true, true],
  ['an untrusted client that must prove its uploads', STRANGER, false, true],
  ['an untrusted client that need not', STRANGER, true, false],
])('%s: outputs are signed: %s', async (_, identity, confined, isSignedNow) => {
  const signer = newSigner();
  const bench = new FrontBench(undefined, undefined, undefined, { signer });
  bench.policy = { ...bench.policy, confined };
  const guest = builder();
  bench.leaser.next = () => guest;
  const { channel } = await bench.client(identity);
  await channel.write(buildRequest({ output: OUTPUT, fixed: '0'.repeat(64) }));
  expect(await outcome(channel)).toBeUndefined();
  for (let read = 0; read < BUILT.length; read += 8) await channel.run(skip());
  await channel.write(encodeQueryPathInfo(OUTPUT));
  expect(await outcome(channel)).toBeUndefined();
  const info = await channel.run(decodePathInfoResponse(VERSION));
  expect(info).toMatchObject({ signatures: isSignedNow ? [expect.any(String)] : [] });
  expect(isSigned({ ...pathInfo(OUTPUT), ...info }, [signer.publicKey])).toBe(isSignedNow);
});

test('an upload is never taken for a build, whatever it says of itself', async () => {
  const bench = new FrontBench();
  const guest = new BenchGuest('g1');
  bench.leaser.next = () => guest;
  const told: boolean[] = [];
  guest.daemon.handlers.set(Op.AddToStoreNar, async (daemon, version) => {
    told.push((await daemon.run(decodeAddToStoreNar(version))).info.ultimate);
    await drainFramed(daemon);
    await daemon.write(LAST);
  });
  const { channel } = await bench.client();
  const info = pathInfo(OUTPUT, { ...narFacts(NAR), ultimate: true });
  for (const part of [
    encodeAddToStoreNar({ info, repair: false, dontCheckSignatures: true }),
    encodeFrame(NAR),
    encodeFrameEnd(),
  ])
    await channel.write(part);
  expect(await outcome(channel)).toBeUndefined();
  expect(told).toEqual([false]);
});

function* skip(): Generator<number, void, Buffer> {
  yield 8;
}

function newSigner(): PathSigner {
  const { x = '', d = '' } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  const secret = Buffer.concat([Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')]);
  const signer = parseSecretKey(`drover-1:${secret.toString('base64')}\n`);
  if (signer === undefined) throw new Error('the key was not read');
  return signer;
}
