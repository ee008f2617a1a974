import { describe, expect, test } from '@jest/globals';

import { encodeFrame, encodeFrameEnd } from '../../../src/protocol/framed.js';
import { encodeBuildPaths, encodeIsValidPath, Op } from '../../../src/protocol/operations.js';
import { decodeBoolResponse } from '../../../src/protocol/responses.js';
import {
  encodeAddMultipleToStore,
  encodeAddToStore,
  encodeAddToStoreNar,
  encodePathCount,
} from '../../../src/protocol/data-requests.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { buildRequest } from '../../support/build-request.js';
import { FrontBench, HOST_CLIENT, outcome, STRANGER } from '../../support/front-bench.js';
import { pathInfo, storePath, VERSION } from '../../support/scripted-daemon.js';

const path = storePath('thing');
const request = (op: number): WireWriter => new WireWriter().u64(op);
const collectGarbage = request(Op.CollectGarbage).u64(2).strings([path]).u64(0).u64(0).u64(0).u64(0).u64(0);
const upload = [encodeFrame(Buffer.alloc(112)), encodeFrameEnd()];

describe('a request that no client is served', () => {
  test.each([
    ['CollectGarbage', [collectGarbage.finish()], 'run the same on the Drover host'],
    ['OptimiseStore', [request(Op.OptimiseStore).finish()], 'run the same on the Drover host'],
    [
      'VerifyStore',
      [request(Op.VerifyStore).bool(true).bool(true).finish()],
      'run the same on the Drover host',
    ],
    ['AddIndirectRoot', [request(Op.AddIndirectRoot).string('/x').finish()], 'make the root there'],
    ['AddPermRoot', [request(Op.AddPermRoot).string(path).string('/x').finish()], 'make the root there'],
    [
      'AddBuildLog',
      [request(Op.AddBuildLog).string('x.drv').finish(), ...upload],
      'nix store copy-log --to STORE',
    ],
    ['BuildDerivation', [buildRequest({ mode: 'repair' })], 'nix-store --repair-path'],
    [
      'BuildPaths',
      [encodeBuildPaths({ targets: [{ path, via: [] }], mode: 'repair' }, VERSION)],
      'nix-store --repair-path',
    ],
    [
      'AddToStore',
      [encodeAddToStore({ name: 'x', method: 'fixed:r:sha256', references: [], repair: true }), ...upload],
      'nix-store --repair-path',
    ],
    [
      'AddToStoreNar',
      [encodeAddToStoreNar({ info: pathInfo(path), repair: true, dontCheckSignatures: true }), ...upload],
      'nix-store --repair-path',
    ],
    [
      'AddMultipleToStore',
      [
        encodeAddMultipleToStore({ repair: true, dontCheckSignatures: true }),
        encodeFrame(encodePathCount(0)),
        encodeFrameEnd(),
      ],
      'nix-store --repair-path',
    ],
  ])('%s is refused by name with advice, and the session goes on', async (name, bytes, advice) => {
    for (const identity of [HOST_CLIENT, STRANGER]) {
      const bench = new FrontBench();
      const { channel } = await bench.client(identity);
      for (let time = 0; time < 2; time++) {
        for (const part of bytes) await channel.write(part);
        const told = await outcome(channel);
        expect(told).toContain(`drover: ${name} is refused: `);
        expect(told).toContain(advice);
      }
      await channel.write(encodeIsValidPath(path));
      expect(await outcome(channel)).toBeUndefined();
      expect(await channel.run(decodeBoolResponse())).toBe(false);
      expect(bench.leaser.granted).toBe(0);
      expect(bench.events.filter(({ type }) => type === 'operation-refused')).toMatchObject([
        { domain: identity.domain, operation: name },
      ]);
    }
  });

  test.each([
    ['HasSubstitutes', Op.HasSubstitutes],
    ['QueryPathHash', Op.QueryPathHash],
    ['QueryReferences', Op.QueryReferences],
    ['AddTextToStore', Op.AddTextToStore],
    ['ExportPath', Op.ExportPath],
    ['QueryFailedPaths', Op.QueryFailedPaths],
    ['ClearFailedPaths', Op.ClearFailedPaths],
    ['ImportPaths', Op.ImportPaths],
    ['SubmitOutput', Op.SubmitOutput],
    ['AddToStoreScanning', Op.AddToStoreScanning],
  ])('%s ends the session with its name', async (name, op) => {
    const bench = new FrontBench();
    const { channel, served } = await bench.client();
    await channel.write(request(op).finish());
    expect(await outcome(channel)).toContain(`drover: ${name} is refused: `);
    await served;
    expect(bench.leaser.granted).toBe(0);
  });
});

describe('a client that is not trusted', () => {
  test('may not send what Drover does not know, and the session ends', async () => {
    const bench = new FrontBench();
    const { channel, served } = await bench.client(STRANGER);
    await channel.write(request(99).string('any bytes').finish());
    const told = await outcome(channel);
    expect(told).toContain('drover: Operation 99 is refused: ');
    expect(told).toContain('set trusted for the client stranger in doors.ssh.clients');
    await served;
    expect(bench.leaser.granted).toBe(0);
  });

  test.each([
    ['QueryAllValidPaths', request(Op.QueryAllValidPaths).finish()],
    ['QueryReferrers', request(Op.QueryReferrers).string(path).finish()],
    ['FindRoots', request(Op.FindRoots).finish()],
    ['AddSignatures', request(Op.AddSignatures).string(path).strings(['k:s']).finish()],
  ])('is refused %s, and the session goes on', async (name, bytes) => {
    const bench = new FrontBench();
    const { channel } = await bench.client(STRANGER);
    await channel.write(bytes);
    expect(await outcome(channel)).toContain(`drover: ${name} is refused: `);
    await channel.write(encodeIsValidPath(path));
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.hostDaemon.asked).not.toContain(Op.AddSignatures);
  });
});
