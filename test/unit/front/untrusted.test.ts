import { generateKeyPairSync, sign } from 'node:crypto';

import { describe, expect, test } from '@jest/globals';

import { WorkerClient } from '../../../src/daemon/worker-client.js';
import { encodeFrame, encodeFrameEnd } from '../../../src/protocol/framed.js';
import { decodeSetOptions, encodeSetOptions, Op, type SetOptions } from '../../../src/protocol/operations.js';
import type { ValidPathInfo } from '../../../src/protocol/path-info.js';
import { pathFingerprint } from '../../../src/protocol/signature.js';
import { decodeStderrFrame } from '../../../src/protocol/stderr.js';
import {
  decodeAddMultipleToStore,
  decodeAddToStoreNar,
  encodeAddedPath,
  encodeAddMultipleToStore,
  encodeAddToStoreNar,
  encodePathCount,
} from '../../../src/protocol/data-requests.js';
import { decodeBuildDerivationResponse } from '../../../src/protocol/responses.js';
import { LATEST_VERSION } from '../../../src/protocol/version.js';
import { WireWriter } from '../../../src/protocol/wire-writer.js';
import { BUILT, buildRequest } from '../../support/build-request.js';
import { BenchGuest, FrontBench, HOST_CLIENT, outcome, STRANGER } from '../../support/front-bench.js';
import { NAR } from '../../support/nar.js';
import { drainFramed, LAST, pathInfo, storePath, VERSION } from '../../support/scripted-daemon.js';

function settings(overrides: Record<string, string>, maxSilentTime = 0): Buffer {
  return encodeSetOptions({
    keepFailed: false,
    keepGoing: true,
    tryFallback: false,
    verbosity: 3,
    maxBuildJobs: 2,
    maxSilentTime,
    verboseBuild: true,
    buildCores: 1,
    useSubstitutes: true,
    overrides: new Map(Object.entries(overrides)),
  });
}

interface Recorded {
  readonly bench: FrontBench;
  readonly options: SetOptions[];
  readonly bytes: Buffer[];
}

/** A front with one guest, which records the settings that it gets and builds everything. */
function recording(): Recorded {
  const guest = new BenchGuest('g1');
  const options: SetOptions[] = [];
  const bytes: Buffer[] = [];
  guest.daemon.handlers.set(Op.SetOptions, async (daemon, version) => {
    const { value, raw } = await daemon.receive(decodeSetOptions(version));
    options.push(value);
    bytes.push(Buffer.concat(raw));
    await daemon.write(LAST);
  });
  guest.daemon.handlers.set(Op.BuildDerivation, async (daemon) => {
    await daemon.readSome();
    await daemon.write(Buffer.concat([LAST, BUILT]));
  });
  const bench = new FrontBench();
  bench.leaser.next = () => guest;
  return { bench, options, bytes };
}

describe('settings', () => {
  test.each([
    ['a limit of silence, for translated builds only', ['x86_64-linux'], settings({}), [3600, 0, 3600]],
    ['the limit that the client has set', ['x86_64-linux'], settings({}, 5), [5, 5, 5]],
    ['the override of the client', ['x86_64-linux'], settings({ 'max-silent-time': '5' }), [0, 0, 0]],
    ['no limit without a translator', [], settings({}), [0, 0, 0]],
  ])('of builds in one session have %s', async (_, translated, request, wanted) => {
    const { bench, options } = recording();
    bench.systems = ['x86_64-linux', 'aarch64-linux'];
    bench.translated = new Set(translated);
    const { channel } = await bench.client(HOST_CLIENT);
    await channel.write(request);
    expect(await outcome(channel)).toBeUndefined();
    const seen: unknown[] = [];
    for (const platform of ['x86_64-linux', 'aarch64-linux', 'x86_64-linux']) {
      await channel.write(buildRequest({ platform }));
      expect(await outcome(channel)).toBeUndefined();
      await channel.run(decodeBuildDerivationResponse(VERSION));
      seen.push(options.at(-1)?.maxSilentTime);
    }
    expect(seen).toEqual(wanted);
  });

  test('of an untrusted client reach the guest only if Nix accepts them from any client', async () => {
    const { bench, options } = recording();
    bench.policy = { ...bench.policy, substituters: new Set(['https://cache.example.org/']) };
    const { channel } = await bench.client(STRANGER);
    const open = {
      timeout: '60',
      'max-silent-time': '5',
      'build-poll-interval': '9',
      'connect-timeout': '3',
    };
    await channel.write(
      settings({
        ...open,
        builders: '',
        substituters: 'https://cache.example.org https://evil.example.org',
        sandbox: 'false',
        'build-users-group': '',
        'build-timeout': '7',
        'experimental-features': 'recursive-nix',
        'bad\u001b]0;name': 'x',
      }),
    );
    const warnings: string[] = [];
    for (;;) {
      const frame = await channel.run(decodeStderrFrame());
      if (frame.kind === 'last') break;
      if (frame.kind === 'next') warnings.push(frame.text);
    }
    expect(warnings.filter((text) => text.includes('untrusted substituter'))).toEqual([
      expect.stringContaining("warning: ignoring untrusted substituter 'https://evil.example.org'"),
    ]);
    const dropped = ['sandbox', 'build-users-group', 'build-timeout', 'bad\\u001b]0;name'];
    expect(warnings.filter((text) => text.includes('restricted'))).toEqual(
      dropped.map(
        (name) =>
          `warning: ignoring the client-specified setting '${name}', because it is a restricted setting and you are not a trusted user\n`,
      ),
    );
    await channel.write(buildRequest());
    expect(await outcome(channel)).toBeUndefined();
    expect(options).toHaveLength(1);
    expect(options[0]).toMatchObject({ keepGoing: true, maxBuildJobs: 2, buildCores: 1 });
    expect(Object.fromEntries(options[0]?.overrides ?? [])).toEqual({
      ...open,
      builders: '',
      substituters: 'https://cache.example.org',
    });
    expect(bench.events.filter(({ type }) => type === 'settings-refused')).toEqual([
      expect.objectContaining({ domain: STRANGER.domain, settings: ['substituters', ...dropped] }),
    ]);
  });

  test('of a trusted client reach the guest unchanged', async () => {
    const { bench, bytes } = recording();
    const { channel } = await bench.client(HOST_CLIENT);
    const sent = settings({ sandbox: 'false' });
    await channel.write(sent);
    expect(await outcome(channel)).toBeUndefined();
    await channel.write(buildRequest());
    expect(await outcome(channel)).toBeUndefined();
    expect(bytes).toEqual([sent.subarray(8)]);
  });
});

test('a client learns of its trust where that decides how its Nix sends a build', async () => {
  const bench = new FrontBench();
  const protocol = { major: 1, minor: 38, features: [] };
  bench.front.configure({ generation: 'new', nixVersion: '2.34.0', protocol, systems: ['x86_64-linux'] });
  const trustOf = async (identity = STRANGER): Promise<boolean | undefined> => {
    const client = await WorkerClient.connect(bench.open(identity).stream, LATEST_VERSION, 'The front');
    return client.handshake.trusted;
  };
  expect([await trustOf(HOST_CLIENT), await trustOf()]).toEqual([true, undefined]);
  bench.policy = { ...bench.policy, confined: false };
  expect([await trustOf(HOST_CLIENT), await trustOf()]).toEqual([true, false]);
});

describe('where guests are shared, an untrusted client', () => {
  function shared(): { bench: FrontBench; guest: BenchGuest; publicKey: string; signed: ValidPathInfo } {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const raw = publicKey.export({ format: 'jwk' }).x ?? '';
    const info = pathInfo(storePath('signed'), { references: [storePath('b'), storePath('a')] });
    const signature = sign(null, Buffer.from(pathFingerprint(info)), privateKey).toString('base64');
    const key = `k-1:${Buffer.from(raw, 'base64url').toString('base64')}`;
    const bench = new FrontBench();
    const guest = new BenchGuest('g1');
    bench.leaser.next = () => guest;
    bench.policy = { ...bench.policy, confined: false, trustedPublicKeys: [key] };
    return {
      bench,
      guest,
      publicKey: key,
      signed: { ...info, signatures: ['other-1:AAAA', `k-1:${signature}`] },
    };
  }

  const addNar = (info: ValidPathInfo): Buffer[] => [
    encodeAddToStoreNar({ info, repair: false, dontCheckSignatures: true }),
    encodeFrame(NAR),
    encodeFrameEnd(),
  ];
  const addMultiple = (info: ValidPathInfo): Buffer[] => [
    encodeAddMultipleToStore({ repair: false, dontCheckSignatures: true }),
    encodeFrame(Buffer.concat([encodePathCount(1), encodeAddedPath(info), NAR])),
    encodeFrameEnd(),
  ];

  /** Uploads, and says which checks the guest was told to leave out, or what the client was told. */
  async function uploads(
    bench: FrontBench,
    guest: BenchGuest,
    info: ValidPathInfo,
    identity = STRANGER,
  ): Promise<(string | boolean | undefined)[]> {
    const results: (string | boolean | undefined)[] = [];
    guest.daemon.handlers.set(Op.AddToStoreNar, async (daemon, version) => {
      results.push((await daemon.run(decodeAddToStoreNar(version))).dontCheckSignatures);
      await drainFramed(daemon);
      await daemon.write(LAST);
    });
    guest.daemon.handlers.set(Op.AddMultipleToStore, async (daemon, version) => {
      results.push((await daemon.run(decodeAddMultipleToStore(version))).dontCheckSignatures);
      await drainFramed(daemon);
      await daemon.write(LAST);
    });
    for (const parts of [addNar(info), addMultiple(info)]) {
      const { channel, stream } = await bench.client(identity);
      for (const part of parts) await channel.write(part);
      const told = await outcome(channel);
      if (told !== undefined) results.push(told);
      stream.destroy();
    }
    return results;
  }

  test('uploads a content-addressed path, which the guest checks', async () => {
    const { bench, guest } = shared();
    const info = pathInfo(storePath('text'), {
      contentAddress: { method: 'text', algorithm: 'sha256', hash: 'a'.repeat(64) },
    });
    expect(await uploads(bench, guest, info)).toEqual([false, false]);
  });

  test('uploads what a trusted key has signed', async () => {
    const { bench, guest, signed } = shared();
    expect(await uploads(bench, guest, signed)).toEqual([true, true]);
  });

  test.each([
    ['is not signed', (info: ValidPathInfo) => ({ ...info, signatures: [] })],
    [
      'has other references than the signed ones',
      (info: ValidPathInfo) => ({ ...info, references: [storePath('evil')] }),
    ],
    [
      'is signed by another key of that name',
      (info: ValidPathInfo) => ({ ...info, signatures: [`k-1:${'A'.repeat(86)}==`] }),
    ],
  ])('cannot upload a path that %s', async (_how, change) => {
    const { bench, guest, signed } = shared();
    const told = await uploads(bench, guest, change(signed));
    expect(told).toHaveLength(2);
    for (const text of told) expect(text).toContain('neither content-addressed nor signed by a trusted key');
    expect(guest.daemon.paths.size).toBe(0);
    expect(await uploads(bench, guest, { ...signed, signatures: [] }, HOST_CLIENT)).toEqual([true, true]);
  });

  test('cannot build under the output path of any other derivation', async () => {
    const { bench, guest } = shared();
    guest.daemon.handlers.set(Op.BuildDerivation, async (daemon) => {
      await daemon.readSome();
      await daemon.write(Buffer.concat([LAST, BUILT]));
    });
    const { channel } = await bench.client(STRANGER);
    await channel.write(buildRequest());
    expect(await outcome(channel)).toContain('you are not privileged to build input-addressed derivations');
    expect(bench.leaser.granted).toBe(0);
    await channel.write(buildRequest({ fixed: 'a'.repeat(64) }));
    expect(await outcome(channel)).toBeUndefined();
  });

  test('cannot say what the outputs of derivations are', async () => {
    const { bench } = shared();
    const { channel } = await bench.client(STRANGER);
    const id = `sha256:${'a'.repeat(64)}!out`;
    const json = JSON.stringify({ id, outPath: storePath('x').slice(11), signatures: [] });
    await channel.write(new WireWriter().u64(Op.RegisterDrvOutput).string(json).finish());
    expect(await outcome(channel)).toContain('RegisterDrvOutput is refused');
    expect(bench.leaser.granted).toBe(0);
  });
});

test('where guests serve one client each, an untrusted client uploads inputs as the build hook does', async () => {
  const guest = new BenchGuest('g1');
  const bench = new FrontBench();
  bench.leaser.next = () => guest;
  const { channel } = await bench.client(STRANGER);
  const info = pathInfo(storePath('input'));
  await channel.write(encodeAddToStoreNar({ info, repair: false, dontCheckSignatures: true }));
  await channel.write(encodeFrame(NAR));
  await channel.write(encodeFrameEnd());
  expect(await outcome(channel)).toBeUndefined();
  expect([...guest.daemon.paths.keys()]).toEqual([info.path]);
});
