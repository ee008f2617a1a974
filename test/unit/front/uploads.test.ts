import { describe, expect, test } from '@jest/globals';

import { ByteQueue } from '../../../src/protocol/byte-queue.js';
import { Feeder } from '../../../src/protocol/feeder.js';
import { encodeFrame, encodeFrameEnd } from '../../../src/protocol/framed.js';
import { decodeNarFromPath, encodeNarFromPath, Op } from '../../../src/protocol/operations.js';
import { encodeErrorFrame, encodeStderrFrame } from '../../../src/protocol/stderr.js';
import {
  decodeAddedPath,
  decodeAddMultipleToStore,
  decodeAddToStoreNar,
  decodePathCount,
  encodeAddedPath,
  encodeAddMultipleToStore,
  encodeAddToStoreNar,
  encodePathCount,
} from '../../../src/protocol/data-requests.js';
import type { ValidPathInfo } from '../../../src/protocol/path-info.js';
import { deferred } from '../../support/deferred.js';
import { settled } from '../../support/fake-clock.js';
import { BenchGuest, FrontBench, outcome } from '../../support/front-bench.js';
import { NAR, narFacts, narOf } from '../../support/nar.js';
import { waitUntil } from '../../support/wait.js';
import { drainFramed, LAST, pathInfo, storePath } from '../../support/scripted-daemon.js';

/** Cut in the middle. */
const HALF = narOf(Buffer.alloc(800, 7));
const BIG = narOf(Buffer.alloc(8 * 1024 * 1024));

function benchWith(guest: BenchGuest): FrontBench {
  const bench = new FrontBench();
  bench.leaser.next = () => guest;
  return bench;
}

function upload(...infos: ValidPathInfo[]): Buffer[] {
  return [
    encodeAddMultipleToStore({ repair: false, dontCheckSignatures: true }),
    encodeFrame(encodePathCount(infos.length)),
    ...infos.flatMap((info) => [encodeFrame(encodeAddedPath(info)), encodeFrame(NAR)]),
    encodeFrameEnd(),
  ];
}

describe('an upload', () => {
  test('continues while the guest sends many log frames', async () => {
    const guest = new BenchGuest('g1');
    const report = encodeStderrFrame({ kind: 'next', text: 'x'.repeat(64 * 1024) });
    guest.daemon.handlers.set(Op.AddMultipleToStore, async (daemon, version) => {
      await daemon.run(decodeAddMultipleToStore(version));
      // Says more than fits into all buffers on the way before it reads on, as with thousands of small paths.
      for (let i = 0; i < 64; i++) await daemon.write(report);
      await drainFramed(daemon);
      await daemon.write(LAST);
    });
    const bench = benchWith(guest);
    const { channel } = await bench.client();
    const info = pathInfo(storePath('a'), narFacts(BIG));
    const sent = (async () => {
      await channel.write(encodeAddMultipleToStore({ repair: false, dontCheckSignatures: true }));
      await channel.write(encodeFrame(Buffer.concat([encodePathCount(1), encodeAddedPath(info)])));
      await channel.write(encodeFrame(BIG));
      await channel.write(encodeFrameEnd());
    })();
    expect(await outcome(channel)).toBeUndefined();
    await sent;
  });

  test('makes the references of a path valid first, each once', async () => {
    const guest = new BenchGuest('g1');
    const bench = benchWith(guest);
    const hosts = storePath('hosts');
    bench.hostDaemon.paths.set(hosts, { info: pathInfo(hosts), nar: NAR });
    const { channel } = await bench.client();
    const [a, b] = [storePath('a'), storePath('b')];
    const infos = [pathInfo(a, { references: [a, hosts] }), pathInfo(b, { references: [hosts, a] })];
    for (const part of upload(...infos)) await channel.write(part);
    expect(await outcome(channel)).toBeUndefined();
    expect(guest.registrations).toHaveLength(1);
    expect(guest.registrations[0]).toContain(hosts);

    const c = storePath('c');
    const info = pathInfo(c, { references: [hosts, c] });
    await channel.write(encodeAddToStoreNar({ info, repair: false, dontCheckSignatures: true }));
    await channel.write(Buffer.concat([encodeFrame(NAR), encodeFrameEnd()]));
    expect(await outcome(channel)).toBeUndefined();
    expect(guest.daemon.paths.get(c)?.nar).toEqual(NAR);
    expect(guest.registrations).toHaveLength(1);
  });

  test('may contain paths that the guest has already, though its Nix does not skip them', async () => {
    const guest = new BenchGuest('g1');
    // As Nix 2.8: the NAR of a path that it has is taken for the next path's info.
    guest.daemon.handlers.set(Op.AddMultipleToStore, async (daemon, version) => {
      await daemon.run(decodeAddMultipleToStore(version));
      const queue = new ByteQueue();
      queue.push(await drainFramed(daemon));
      try {
        const count = new Feeder(decodePathCount(), queue);
        count.feed();
        for (let left = count.end(); left > 0; left--) {
          const next = new Feeder(decodeAddedPath(), queue);
          next.feed();
          const info = next.end();
          if (guest.daemon.paths.has(info.path)) continue;
          guest.daemon.paths.set(info.path, { info, nar: queue.take(info.narSize) ?? Buffer.alloc(0) });
        }
        await daemon.write(LAST);
      } catch (error) {
        await daemon.write(encodeErrorFrame(String(error)));
      }
    });
    const bench = benchWith(guest);
    const infos = ['a', 'b', 'c'].map((name) => pathInfo(storePath(name)));
    for (let time = 0; time < 2; time++) {
      const { channel } = await bench.client();
      for (const part of upload(...infos)) await channel.write(part);
      expect(await outcome(channel)).toBeUndefined();
    }
    expect(infos.map(({ path }) => guest.daemon.paths.get(path)?.nar)).toEqual([NAR, NAR, NAR]);
  });

  test('that the guest rejects is reported once, and the session stays open', async () => {
    const guest = new BenchGuest('g1');
    guest.daemon.handlers.set(Op.AddMultipleToStore, async (daemon, version) => {
      await daemon.run(decodeAddMultipleToStore(version));
      await daemon.write(encodeErrorFrame('it lacks a valid signature'));
      await drainFramed(daemon);
    });
    const bench = benchWith(guest);
    const { channel, client } = await bench.client();
    const all = upload(...['a', 'b', 'c'].map((name) => pathInfo(storePath(name))));
    for (const part of all) await channel.write(part);
    expect(await outcome(channel)).toContain('it lacks a valid signature');
    // Nix that is told in the middle ends the upload there.
    for (const part of all.slice(0, 3)) await channel.write(part);
    expect(await outcome(channel)).toContain('it lacks a valid signature');
    await channel.write(encodeFrameEnd());
    expect(await client.queryValidPaths([storePath('d')])).toEqual([]);
    expect(guest.daemon.asked.filter((op) => op === Op.AddMultipleToStore)).toHaveLength(2);
  });

  test('is rejected with a message if a reference cannot be made valid, and the lease is returned', async () => {
    const guest = new BenchGuest('g1');
    const bench = benchWith(guest);
    const broken = storePath('broken');
    bench.hostDaemon.paths.set(broken, { info: pathInfo(broken), nar: NAR });
    guest.invisible.add(broken);
    bench.hostDaemon.handlers.set(Op.NarFromPath, (daemon) => {
      daemon.destroy();
      return Promise.resolve();
    });
    const { channel, served } = await bench.client();
    for (const part of upload(pathInfo(storePath('a'), { references: [broken] }))) await channel.write(part);
    expect(await outcome(channel)).toContain(`${broken} is valid on the host, but it is not on its disk`);
    channel.end();
    await served;
    expect(bench.leaser.held).toBe(0);
    await waitUntil('the end of the guest connection', () => guest.daemon.open.size === 0);
  });

  test('that stalls while others wait for its slot is reported to the client', async () => {
    const bench = benchWith(new BenchGuest('g1'));
    bench.leaser.wanted = true;
    const { channel, served } = await bench.client();
    const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = upload(pathInfo(storePath('a')));
    await channel.write(Buffer.concat([first, second]));
    await waitUntil('the time limit', () => bench.clock.pendingTimers > 0);
    await bench.clock.advance(60_000);
    expect(await outcome(channel)).toContain('The client stopped in the middle of a message');
    channel.end();
    await served;
    expect(bench.leaser.held).toBe(0);
  });

  test('may pause for an hour while no session waits for its slot, and the client reads why it ended', async () => {
    const bench = benchWith(new BenchGuest('g1'));
    const pause = async (minutes: number): Promise<void> => {
      for (let minute = 0; minute < minutes; minute++) {
        await waitUntil('the time limit', () => bench.clock.pendingTimers > 0);
        await bench.clock.advance(60_000);
        await settled();
      }
    };
    const first = await bench.client();
    const [header = Buffer.alloc(0), ...rest] = upload(pathInfo(storePath('a')));
    await first.channel.write(header);
    await pause(59);
    for (const part of rest) await first.channel.write(part);
    expect(await outcome(first.channel)).toBeUndefined();
    first.stream.destroy();
    await first.served;

    const second = await bench.client();
    await second.channel.write(header);
    await pause(60);
    await second.served;
    expect(bench.leaser.held).toBe(0);
    // It continues minutes later, with bytes that are no longer wanted.
    await bench.clock.advance(300_000);
    for (const part of rest) await second.channel.write(part);
    expect(await outcome(second.channel)).toContain(
      'The client stopped in the middle of a message for 3600 s',
    );
  });

  test('that the guest is slow to accept does not count as a stall of the client', async () => {
    const guest = new BenchGuest('g1');
    const [begun, busy] = [deferred<null>(), deferred<null>()];
    guest.daemon.handlers.set(Op.AddToStoreNar, async (daemon, version) => {
      await daemon.run(decodeAddToStoreNar(version));
      begun.resolve(null);
      await busy.promise;
      await drainFramed(daemon);
      await daemon.write(LAST);
    });
    const bench = benchWith(guest);
    const { channel } = await bench.client();
    const info = pathInfo(storePath('big'), narFacts(BIG));
    const sent = (async () => {
      await channel.write(encodeAddToStoreNar({ info, repair: false, dontCheckSignatures: true }));
      await channel.write(encodeFrame(BIG));
      await channel.write(encodeFrameEnd());
    })();
    await begun.promise;
    await waitUntil('the front to wait for the guest', () => bench.clock.pendingTimers === 0);
    await bench.clock.advance(600_000);
    busy.resolve(null);
    expect(await outcome(channel)).toBeUndefined();
    await sent;
  });

  test('that the client abandons returns the lease', async () => {
    const guest = new BenchGuest('g1');
    const bench = benchWith(guest);
    const { channel, stream, served } = await bench.client();
    const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = upload(pathInfo(storePath('a')));
    await channel.write(Buffer.concat([first, second]));
    await waitUntil('a lease', () => bench.leaser.held === 1);
    stream.destroy();
    await served;
    expect(bench.leaser.held).toBe(0);
  });
});

describe('a path that is sent to the client', () => {
  test('comes from the host where it is valid there, pinned and without a guest', async () => {
    const bench = new FrontBench();
    const path = storePath('a');
    bench.hostDaemon.paths.set(path, { info: pathInfo(path), nar: NAR });
    const { client } = await bench.client();
    for (let i = 0; i < 2; i++) {
      const parts: Uint8Array[] = [];
      for await (const part of client.narFromPath(path, pathInfo(path))) parts.push(part);
      expect(Buffer.concat(parts)).toEqual(NAR);
    }
    expect(bench.hostDaemon.asked).toContain(Op.AddTempRoot);
    expect(bench.leaser.granted).toBe(0);
  });

  test('comes from the guest if that built or received it', async () => {
    const guest = new BenchGuest('g1');
    const bench = benchWith(guest);
    const { channel, client } = await bench.client();
    const info = pathInfo(storePath('a'));
    for (const part of upload(info)) await channel.write(part);
    expect(await outcome(channel)).toBeUndefined();
    guest.daemon.paths.set(info.path, { info, nar: NAR });
    bench.hostDaemon.paths.set(info.path, { info, nar: Buffer.alloc(112, 1) });
    const parts: Uint8Array[] = [];
    for await (const part of client.narFromPath(info.path, info)) parts.push(part);
    expect(Buffer.concat(parts)).toEqual(NAR);
  });

  test("is refused with the host's words where the host cannot send it", async () => {
    const bench = new FrontBench();
    const path = storePath('a');
    bench.hostDaemon.paths.set(path, { info: pathInfo(path), nar: NAR });
    bench.hostDaemon.handlers.set(Op.NarFromPath, async (daemon, version) => {
      await daemon.run(decodeNarFromPath(version));
      await daemon.write(encodeErrorFrame('the disk is gone'));
    });
    const { channel } = await bench.client();
    await channel.write(encodeNarFromPath(path));
    expect(await outcome(channel)).toContain('the disk is gone');
    expect(bench.leaser.granted).toBe(0);
  });

  test('is cut, not garbled, when the host stops in the middle of it', async () => {
    const bench = new FrontBench();
    const path = storePath('a');
    bench.hostDaemon.paths.set(path, { info: pathInfo(path, narFacts(HALF)), nar: NAR });
    bench.hostDaemon.handlers.set(Op.NarFromPath, async (daemon, version) => {
      await daemon.run(decodeNarFromPath(version));
      await daemon.write(Buffer.concat([LAST, HALF.subarray(0, 500)]));
      daemon.end();
    });
    const { channel, stream, served } = await bench.client();
    const parts: Buffer[] = [];
    stream.on('data', (part: Buffer) => parts.push(part));
    await channel.write(encodeNarFromPath(path));
    await served;
    expect(Buffer.concat(parts)).toEqual(Buffer.concat([LAST, HALF.subarray(0, 500)]));
  });

  test('is cut, not garbled, when the guest is lost in the middle of it', async () => {
    const guest = new BenchGuest('g1');
    const path = storePath('a');
    guest.daemon.paths.set(path, { info: pathInfo(path, narFacts(HALF)), nar: HALF });
    guest.daemon.handlers.set(Op.NarFromPath, async (daemon) => {
      await daemon.readSome();
      await daemon.write(Buffer.concat([LAST, HALF.subarray(0, 500)]));
      await settled();
      guest.lose();
    });
    const bench = benchWith(guest);
    const { channel, stream, served } = await bench.client();
    for (const part of upload(pathInfo(storePath('mine')))) await channel.write(part);
    expect(await outcome(channel)).toBeUndefined();
    const parts: Buffer[] = [];
    stream.on('data', (part: Buffer) => parts.push(part));
    await channel.write(encodeNarFromPath(path));
    await served;
    expect(Buffer.concat(parts).includes('drover')).toBe(false);
    expect(bench.leaser.held).toBe(0);
  });
});
