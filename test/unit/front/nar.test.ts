import { describe, expect, test } from '@jest/globals';

import {
  decodeNarFromPath,
  encodeNarFromPath,
  encodeQueryPathInfo,
  Op,
} from '../../../src/protocol/operations.js';
import { encodeFrame, encodeFrameEnd } from '../../../src/protocol/framed.js';
import { decodePathInfoResponse } from '../../../src/protocol/responses.js';
import {
  encodeAddedPath,
  encodeAddMultipleToStore,
  encodeAddToStoreNar,
  encodePathCount,
} from '../../../src/protocol/data-requests.js';
import { settled } from '../../support/fake-clock.js';
import { BenchGuest, FrontBench, outcome } from '../../support/front-bench.js';
import { NAR, narFacts, narOf } from '../../support/nar.js';
import { LAST, pathInfo, storePath, VERSION } from '../../support/scripted-daemon.js';

/** A client that has uploaded something, so that the guest is its own, and a path that the guest has. */
async function seated(sent: Uint8Array, said = narFacts(NAR)) {
  const guest = new BenchGuest('g1');
  const bench = new FrontBench();
  bench.leaser.next = () => guest;
  const connection = await bench.client();
  const mine = pathInfo(storePath('mine'));
  await connection.channel.write(
    Buffer.concat([
      encodeAddToStoreNar({ info: mine, repair: false, dontCheckSignatures: true }),
      encodeFrame(NAR),
      encodeFrameEnd(),
    ]),
  );
  expect(await outcome(connection.channel)).toBeUndefined();
  const path = storePath('output');
  guest.daemon.paths.set(path, { info: pathInfo(path, said), nar: sent });
  return { bench, guest, path, ...connection };
}

describe('a NAR of a guest', () => {
  test.each([
    ['is longer than its path info says', narOf(Buffer.alloc(4000)), narFacts(NAR)],
    ['is shorter than its path info says', NAR, { ...narFacts(NAR), narSize: 4000 }],
    [
      'has another hash than its path info says',
      narOf(Buffer.alloc(8, 1)),
      { ...narFacts(NAR), narSize: 120 },
    ],
    ['is none', Buffer.alloc(112, 7), narFacts(NAR)],
  ])('that %s is cut before its end, and the guest is retired', async (_name, nar, said) => {
    const { bench, guest, path, channel, stream, served } = await seated(nar, said);
    const parts: Buffer[] = [];
    stream.on('data', (part: Buffer) => parts.push(part));
    await channel.write(encodeNarFromPath(path));
    await served;
    expect(Buffer.concat(parts).length).toBeLessThan(LAST.length + Math.min(nar.length, said.narSize));
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'untrusted' }]);
    expect(bench.events.at(-1)).toMatchObject({ type: 'session-closed', error: 'NAR_INVALID' });
    await settled();
    expect(guest.daemon.open.size).toBe(0);
  });

  test('that is not what the client was told before is cut', async () => {
    const { guest, path, channel, served, bench } = await seated(NAR);
    await channel.write(encodeQueryPathInfo(path));
    expect(await outcome(channel)).toBeUndefined();
    expect(await channel.run(decodePathInfoResponse(VERSION))).toMatchObject(narFacts(NAR));
    const other = narOf(Buffer.from('another'));
    guest.daemon.paths.set(path, { info: pathInfo(path, narFacts(other)), nar: other });
    await channel.write(encodeNarFromPath(path));
    await served;
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'untrusted' }]);
  });

  test('with more behind it leaves no connection for another session', async () => {
    const { guest, path, channel, served, bench } = await seated(NAR);
    guest.daemon.handlers.set(Op.NarFromPath, async (daemon, version) => {
      await daemon.run(decodeNarFromPath(version));
      await daemon.write(Buffer.concat([LAST, NAR, LAST]));
    });
    await channel.write(encodeNarFromPath(path));
    channel.end();
    await served;
    await settled();
    expect([bench.leaser.held, guest.daemon.open.size]).toEqual([0, 0]);
  });
});

describe('a NAR of the host', () => {
  test('that is not what its path info says is cut before its end', async () => {
    const bench = new FrontBench();
    const path = storePath('damaged');
    const nar = narOf(Buffer.alloc(4_000_000));
    bench.hostDaemon.paths.set(path, { info: pathInfo(path, { narSize: nar.length }), nar });
    const { channel, stream, served } = await bench.client();
    const parts: Buffer[] = [];
    stream.on('data', (part: Buffer) => parts.push(part));
    await channel.write(encodeNarFromPath(path));
    await served;
    expect(Buffer.concat(parts).length).toBeLessThan(nar.length);
    expect(bench.events.at(-1)).toMatchObject({ type: 'session-closed', error: 'NAR_INVALID' });
  });

  test('of which nothing was sent yet is refused in words', async () => {
    const bench = new FrontBench();
    const path = storePath('damaged');
    bench.hostDaemon.paths.set(path, { info: pathInfo(path, { narHash: '0'.repeat(64) }), nar: NAR });
    const { channel } = await bench.client();
    await channel.write(encodeNarFromPath(path));
    expect(await outcome(channel)).toContain(`The NAR of ${path}`);
  });

  test('of which the host does not know the size ends where it ends', async () => {
    const bench = new FrontBench();
    const path = storePath('old');
    bench.hostDaemon.paths.set(path, { info: pathInfo(path, { narSize: 0 }), nar: NAR });
    const { client } = await bench.client();
    for (let time = 0; time < 2; time++) {
      const parts: Uint8Array[] = [];
      for await (const part of client.narFromPath(path, narFacts(NAR))) parts.push(part);
      expect(Buffer.concat(parts)).toEqual(NAR);
    }
  });
});

test('a path that neither the host nor the guest has takes no guest', async () => {
  const bench = new FrontBench();
  const { channel, client } = await bench.client();
  await channel.write(encodeNarFromPath(storePath('absent')));
  expect(await outcome(channel)).toContain('is not valid');
  expect(await client.queryValidPaths([storePath('other')])).toEqual([]);
  expect(bench.leaser.granted).toBe(0);
});

describe('an upload that is not what it announces', () => {
  const info = pathInfo(storePath('a'));
  const header = { repair: false, dontCheckSignatures: true };

  test.each([
    ['longer', narOf(Buffer.alloc(100))],
    ['malformed', Buffer.alloc(112, 7)],
    ['of another hash', narOf({ target: 'a' })],
  ])('is refused if it is %s, one path by itself or among others', async (_name, nar) => {
    const single = [encodeAddToStoreNar({ info, ...header }), encodeFrame(nar), encodeFrameEnd()];
    const several = [
      encodeAddMultipleToStore(header),
      encodeFrame(Buffer.concat([encodePathCount(1), encodeAddedPath(info), nar])),
      encodeFrameEnd(),
    ];
    for (const upload of [single, several]) {
      const bench = new FrontBench();
      const { channel, stream, served } = await bench.client();
      await channel.write(Buffer.concat(upload));
      expect(await outcome(channel)).toContain(`The NAR of ${info.path}`);
      stream.end();
      await served;
      expect(bench.guest.daemon.paths.has(info.path)).toBe(false);
      expect(bench.events.at(-1)).toMatchObject({ type: 'session-closed', error: 'UPLOAD_INVALID' });
      expect(bench.leaser.retired).toEqual([]);
    }
  });
});
