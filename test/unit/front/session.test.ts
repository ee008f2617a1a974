import { describe, expect, test } from '@jest/globals';

import { DroverError } from '../../../src/lib/errors.js';
import { CLIENT_MAGIC } from '../../../src/protocol/handshake-info.js';
import * as operations from '../../../src/protocol/operations.js';
import {
  decodeBoolResponse,
  decodeDoneResponse,
  decodePathInfoResponse,
  decodeQueryMissingResponse,
  decodeStorePathsResponse,
} from '../../../src/protocol/responses.js';
import { encodeAddMultipleToStore, encodePathCount } from '../../../src/protocol/data-requests.js';
import { encodeFrame, encodeFrameEnd } from '../../../src/protocol/framed.js';
import { versionToWire } from '../../../src/protocol/version.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { buildRequest } from '../../support/build-request.js';
import { settled } from '../../support/fake-clock.js';
import { waitUntil } from '../../support/wait.js';
import { BenchGuest, FrontBench, outcome } from '../../support/front-bench.js';
import { LAST, pathInfo, storePath, VERSION } from '../../support/scripted-daemon.js';

/** Everything that a client of Nix 2.8 sends first. */
const HELLO = Buffer.concat([
  new WireWriter().u64(CLIENT_MAGIC).u64(versionToWire(VERSION)).finish(),
  new WireWriter().u64(0).bool(false).finish(),
]);

async function readAll(stream: NodeJS.ReadableStream): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

describe('a session without a guest', () => {
  test('is refused after the handshake, in words, while there are too many', async () => {
    const bench = new FrontBench();
    bench.overload = new DroverError('HOST_EXHAUSTED', 'no file descriptor is free', { hint: 'Close some.' });
    const { client, served } = await bench.client();
    expect(await outcome(client.channel)).toBe('drover: no file descriptor is free\nClose some.');
    await served;
    expect(bench.events.at(-1)).toMatchObject({ type: 'session-closed', error: 'HOST_EXHAUSTED' });
    expect([bench.leaser.granted, bench.hostDaemon.connections]).toEqual([0, 0]);
  });

  test('answers the handshake at once, asking neither the host nor for a lease', async () => {
    const bench = new FrontBench();
    const { client } = await bench.client();
    expect(client.handshake.daemonNixVersion).toBe('2.8.0');
    expect([bench.leaser.granted, bench.hostDaemon.connections]).toEqual([0, 0]);
  });

  test('answers what the host knows, and an empty upload, without a lease', async () => {
    const bench = new FrontBench();
    const [valid, unknown] = [storePath('valid'), storePath('unknown')];
    bench.hostDaemon.paths.set(valid, { info: pathInfo(valid), nar: Buffer.alloc(112) });
    const { channel } = await bench.client();

    const options = {
      keepFailed: false,
      keepGoing: false,
      tryFallback: false,
      verbosity: 0,
      maxBuildJobs: 1,
    };
    await channel.write(
      operations.encodeSetOptions({
        ...options,
        ...{ maxSilentTime: 0, verboseBuild: false, buildCores: 0, useSubstitutes: false },
        overrides: new Map(),
      }),
    );
    expect(await outcome(channel)).toBeUndefined();
    await channel.write(operations.encodeQueryValidPaths({ paths: [valid, unknown], substitute: false }));
    expect(await outcome(channel)).toBeUndefined();
    expect(await channel.run(decodeStorePathsResponse())).toEqual([valid]);
    await channel.write(operations.encodeIsValidPath(unknown));
    expect(await outcome(channel)).toBeUndefined();
    expect(await channel.run(decodeBoolResponse())).toBe(false);
    await channel.write(operations.encodeQueryPathInfo(valid));
    expect(await outcome(channel)).toBeUndefined();
    expect(await channel.run(decodePathInfoResponse(VERSION))).toMatchObject({ narSize: 112 });
    await channel.write(operations.encodeAddTempRoot(valid));
    expect(await outcome(channel)).toBeUndefined();
    await channel.run(decodeDoneResponse());
    await channel.write(
      Buffer.concat([
        encodeAddMultipleToStore({ repair: false, dontCheckSignatures: true }),
        encodeFrame(encodePathCount(0)),
        encodeFrameEnd(),
      ]),
    );
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.granted).toBe(0);
  });

  test('answers a question about thousands of paths, once each and sorted', async () => {
    const bench = new FrontBench();
    const paths = Array.from({ length: 2_600 }, (_, index) =>
      storePath(`p${String(index).padStart(4, '0')}`),
    );
    const valid = paths.filter((_, index) => index % 2 === 0);
    for (const path of valid)
      bench.hostDaemon.paths.set(path, { info: pathInfo(path), nar: Buffer.alloc(0) });
    const { channel } = await bench.client();
    await channel.write(
      operations.encodeQueryValidPaths({ paths: [...paths, ...paths].reverse(), substitute: false }),
    );
    expect(await outcome(channel)).toBeUndefined();
    expect(await channel.run(decodeStorePathsResponse())).toEqual(valid);
    await channel.write(operations.encodeIsValidPath(valid[0] ?? storePath('none')));
    expect(await outcome(channel)).toBeUndefined();
    expect(await channel.run(decodeBoolResponse())).toBe(true);
  });

  test('survives a connection that ends after each byte of the handshake, and serves others', async () => {
    const bench = new FrontBench();
    for (let length = 0; length <= HELLO.length; length++) {
      const { stream, served } = bench.open();
      stream.resume();
      stream.end(HELLO.subarray(0, length));
      await served;
    }
    expect(bench.front.sessions).toBe(0);
    const { client } = await bench.client();
    expect(client.handshake.daemonNixVersion).toBe('2.8.0');
  });

  test.each([
    ['garbage', Buffer.from('GET / HTTP/1.1\r\nHost: drover\r\n\r\n'), 'This is not a Nix client'],
    ['a wrong magic word', new WireWriter().u64(0x1234n).u64(0x121).finish(), 'This is not a Nix client'],
    [
      'a client that is too old',
      new WireWriter().u64(CLIENT_MAGIC).u64(0x11b).finish(),
      'The Nix client speaks protocol 1.27',
    ],
    [
      'a client of another protocol',
      Buffer.concat([
        HELLO,
        new WireWriter()
          .u64(31)
          .u64(1)
          .u64(2n ** 40n)
          .finish(),
      ]),
      'The peer announced 1099511627776 bytes',
    ],
    [
      'a list that is too long',
      Buffer.concat([
        HELLO,
        new WireWriter()
          .u64(31)
          .u64(2n ** 40n)
          .finish(),
      ]),
      'The peer announced 1099511627776 items',
    ],
  ])('tells %s once what is wrong', async (_name, bytes, message) => {
    const bench = new FrontBench();
    const { stream, served } = bench.open();
    stream.write(bytes);
    const told = await readAll(stream);
    await served;
    expect(told.toString('latin1').split(message)).toHaveLength(2);
    expect(bench.events.at(-1)).toMatchObject({ type: 'session-closed' });
    await expect(bench.client()).resolves.toBeDefined();
  });

  test('tells a client that stalls in the middle of a message, and only then', async () => {
    const bench = new FrontBench();
    const { channel, served } = await bench.client();
    await bench.clock.advance(3_600_000);
    await channel.write(operations.encodeIsValidPath(storePath('x')).subarray(0, 20));
    await waitUntil('the time limit', () => bench.clock.pendingTimers > 0);
    await bench.clock.advance(59_000);
    expect(bench.front.sessions).toBe(1);
    await bench.clock.advance(1_000);
    expect(await outcome(channel)).toContain('The client stopped in the middle of a message for 60 s');
    await served;
    expect(bench.clock.pendingTimers).toBeLessThanOrEqual(1);
  });

  test('rejects a derivation for an unsupported system without a guest, and stays open', async () => {
    const bench = new FrontBench();
    const { channel } = await bench.client();
    await channel.write(buildRequest({ platform: 'riscv64-linux' }));
    expect(await outcome(channel)).toContain(
      'this derivation is for riscv64-linux, and guests here build x86_64-linux',
    );
    await channel.write(operations.encodeIsValidPath(storePath('x')));
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.granted).toBe(0);
  });

  test('rejects it also if only the guest that boots for it finds out, and stays open', async () => {
    const bench = new FrontBench();
    bench.systems = ['aarch64-linux', 'x86_64-linux'];
    const { channel } = await bench.client();
    bench.leaser.next = () => {
      bench.systems = ['aarch64-linux'];
      return new BenchGuest('g1');
    };
    await channel.write(buildRequest());
    expect(await outcome(channel)).toContain(
      'this derivation is for x86_64-linux, and guests here build aarch64-linux',
    );
    await channel.write(operations.encodeIsValidPath(storePath('x')));
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.events.filter(({ type }) => type === 'build-started' || type === 'build-finished')).toEqual([
      expect.objectContaining({ type: 'build-finished', result: 'Error' }),
    ]);
  });

  test('has nothing to build or to fetch for paths that are valid on the host, and takes no guest to say so', async () => {
    const bench = new FrontBench();
    const valid = storePath('valid');
    bench.hostDaemon.paths.set(valid, { info: pathInfo(valid), nar: Buffer.alloc(112) });
    const { channel } = await bench.client();
    await channel.write(operations.encodeEnsurePath(valid));
    expect(await outcome(channel)).toBeUndefined();
    await channel.run(decodeDoneResponse());
    await channel.write(operations.encodeQueryMissing([{ path: valid, via: [] }], VERSION));
    expect(await outcome(channel)).toBeUndefined();
    expect(await channel.run(decodeQueryMissingResponse())).toEqual({
      ...{ willBuild: [], willSubstitute: [], unknown: [], downloadSize: 0, narSize: 0 },
    });
    expect(bench.hostDaemon.asked).toContain(operations.Op.AddTempRoot);
    expect(bench.leaser.granted).toBe(0);
  });

  test('reconnects to a host store whose daemon has ended', async () => {
    const bench = new FrontBench();
    const { channel } = await bench.client();
    for (let i = 0; i < 2; i++) {
      await channel.write(operations.encodeIsValidPath(storePath('x')));
      expect(await outcome(channel)).toBeUndefined();
      await channel.run(decodeBoolResponse());
      bench.hostDaemon.die();
      await settled();
    }
    expect(bench.hostDaemon.connections).toBe(2);
  });

  test("reports that the host's daemon ended in the middle of an answer", async () => {
    const bench = new FrontBench();
    bench.hostDaemon.handlers.set(operations.Op.QueryValidPaths, async (channel) => {
      await channel.write(LAST);
      channel.destroy();
    });
    const { channel } = await bench.client();
    await channel.write(operations.encodeIsValidPath(storePath('x')));
    expect(await outcome(channel)).toContain("The host's nix-daemon closed the connection");
  });
});

describe('an operation of unknown length', () => {
  test('makes the session a raw relay, beginning with that operation', async () => {
    const bench = new FrontBench();
    const { channel, stream } = await bench.client();
    const unknown = 99;
    const guest = bench.leaser.next();
    bench.leaser.next = () => guest;
    guest.daemon.handlers.set(unknown, async (daemon) => {
      const parts = await daemon.readSome();
      await daemon.write(Buffer.concat([Buffer.from('echo '), ...parts]));
    });
    const answer = channel.readSome();
    await channel.write(new WireWriter().u64(unknown).finish());
    await channel.write(Buffer.from('any bytes'));
    expect(Buffer.concat(await answer).toString()).toBe('echo any bytes');
    stream.destroy();
    await waitUntil('the end of the session', () => bench.leaser.held === 0 && guest.daemon.open.size === 0);
  });
});

describe('a build that is cancelled', () => {
  test('ends, and its client is told by whom and why', async () => {
    const bench = new FrontBench();
    const guest = new BenchGuest('g1');
    guest.daemon.handlers.set(operations.Op.BuildDerivation, async (daemon, version) => {
      await daemon.run(operations.decodeBuildDerivation(version));
      await daemon.run(operations.decodeOp());
    });
    bench.leaser.next = () => guest;
    const { channel, served } = await bench.client();
    await channel.write(buildRequest());
    await waitUntil('the build', () => bench.front.builds[0]?.guest === 'g1');
    expect(bench.front.cancel('b2', { by: 'alice', reason: null })).toBe(false);
    expect(bench.front.cancel('b1', { by: 'alice', reason: 'too slow' })).toBe(true);
    expect(await outcome(channel)).toBe('drover: Build b1 was cancelled by alice: too slow');
    await served;
    expect(bench.leaser.held).toBe(0);
    expect(bench.events).toContainEqual(
      expect.objectContaining({ type: 'build-finished', result: 'Cancelled' }),
    );
  });

  test('while it waits for a guest', async () => {
    const bench = new FrontBench();
    bench.leaser.paused = true;
    const { channel, served } = await bench.client();
    await channel.write(buildRequest());
    await waitUntil('a waiting build', () => bench.leaser.waiting.length === 1);
    bench.front.cancel('b1', { by: 'alice', reason: null });
    expect(await outcome(channel)).toBe('drover: Build b1 was cancelled by alice');
    await served;
  });
});
