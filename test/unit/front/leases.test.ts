import { describe, expect, test } from '@jest/globals';

import { DroverError } from '../../../src/lib/errors.js';
import { connectedPair } from '../../support/connected-pair.js';
import { deferred } from '../../support/deferred.js';
import { decodeBuildDerivation, decodeOp, Op } from '../../../src/protocol/operations.js';
import { decodeStderrFrame, encodeErrorFrame, encodeStderrFrame } from '../../../src/protocol/stderr.js';
import type { StorePath } from '../../../src/protocol/store-path.js';
import { BUILT, buildRequest } from '../../support/build-request.js';
import { BenchGuest, FrontBench, HOST_CLIENT, outcome } from '../../support/front-bench.js';
import { NAR } from '../../support/nar.js';
import { settled } from '../../support/fake-clock.js';
import { waitUntil } from '../../support/wait.js';
import { LAST, pathInfo, storePath, type Handler } from '../../support/scripted-daemon.js';

const builds: Handler = async (daemon, version) => {
  await daemon.run(decodeBuildDerivation(version));
  await daemon.write(Buffer.concat([LAST, BUILT]));
};

/** A guest whose daemon does this about builds. */
function guestThat(id: string, build: Handler): BenchGuest {
  const guest = new BenchGuest(id);
  guest.daemon.handlers.set(Op.BuildDerivation, build);
  return guest;
}

/** A bench that grants these guests, in this order. */
function benchWith(...guests: BenchGuest[]): FrontBench {
  const bench = new FrontBench();
  const left = [...guests];
  bench.leaser.next = () => left.shift() ?? guestThat('spare', builds);
  return bench;
}

function onHost(bench: FrontBench, name: string): StorePath {
  const path = storePath(name);
  bench.hostDaemon.paths.set(path, { info: pathInfo(path), nar: Buffer.alloc(112) });
  return path;
}

/** Waits until the guest has begun to register paths, and keeps it from ending until `release`. */
function hangsInRegister(guest: BenchGuest): { reached: Promise<null>; release: () => void } {
  const [reached, released] = [deferred<null>(), deferred<null>()];
  guest.beforeRegister = async () => {
    reached.resolve(null);
    await released.promise;
  };
  return {
    reached: reached.promise,
    release: () => {
      released.resolve(null);
    },
  };
}

test('a log line that a lost guest has begun is completed before another guest goes on', async () => {
  const line = encodeStderrFrame({ kind: 'result', id: 7n, type: 101, fields: ['x'.repeat(100_000)] });
  const dying = guestThat('g1', async (daemon, version) => {
    await daemon.run(decodeBuildDerivation(version));
    await daemon.write(line.subarray(0, 50_000));
    await settled();
    dying.lose();
  });
  const bench = benchWith(dying, guestThat('g2', builds));
  const { channel } = await bench.client();
  await channel.write(buildRequest());
  const kinds: string[] = [];
  for (let kind = ''; kind !== 'last'; kinds.push(kind)) kind = (await channel.run(decodeStderrFrame())).kind;
  expect(kinds).toContain('result');
  await channel.run(decodeAll(BUILT.length));
});

describe('when the client leaves', () => {
  test('while it waits for a lease, the request is withdrawn', async () => {
    const bench = new FrontBench();
    bench.leaser.paused = true;
    const { channel, stream, served } = await bench.client();
    await channel.write(buildRequest());
    await waitUntil('a request for a lease', () => bench.leaser.waiting.length === 1);
    stream.destroy();
    await served;
    expect(bench.leaser.waiting).toHaveLength(0);
    await waitUntil('the end of the host connection', () => bench.hostDaemon.open.size === 0);
    expect(bench.events).toContainEqual(
      expect.objectContaining({ type: 'build-finished', result: 'Cancelled' }),
    );
  });

  test('while its guest is being reached, the lease is returned and a late connection closed', async () => {
    const guest = guestThat('g1', builds);
    const [asked, late] = [deferred<null>(), deferred<null>()];
    guest.openDaemon = async () => {
      asked.resolve(null);
      await late.promise;
      return guest.daemon.connect();
    };
    const bench = benchWith(guest);
    const { channel, stream, served } = await bench.client();
    await channel.write(buildRequest());
    await asked.promise;
    expect(bench.leaser.held).toBe(1);
    stream.destroy();
    await served;
    expect(bench.leaser.held).toBe(0);
    late.resolve(null);
    await waitUntil(
      'the end of the late connection',
      () => guest.daemon.connections === 1 && guest.daemon.open.size === 0,
    );
  });

  test('while its guest does not answer the handshake, the lease is returned', async () => {
    const guest = guestThat('g1', builds);
    const silent = new BenchGuest('silent').daemon;
    guest.openDaemon = () => {
      const stream = silent.connect();
      stream.write = () => true;
      return Promise.resolve(stream);
    };
    const bench = benchWith(guest);
    const { channel, stream, served } = await bench.client();
    await channel.write(buildRequest());
    await waitUntil('a connection', () => silent.connections === 1);
    stream.destroy();
    await served;
    expect(bench.leaser.held).toBe(0);
  });

  test('while another session provisions the guest, it does not wait for its turn', async () => {
    const guest = guestThat('g1', builds);
    const { reached, release } = hangsInRegister(guest);
    const bench = benchWith(guest, guest);
    const [first, second] = [await bench.client(), await bench.client()];
    await first.channel.write(buildRequest({ inputs: [onHost(bench, 'a')] }));
    await reached;
    await second.channel.write(buildRequest({ inputs: [onHost(bench, 'b')] }));
    await waitUntil('the second connection', () => guest.daemon.open.size === 2);
    expect(bench.leaser.held).toBe(2);
    second.stream.destroy();
    await second.served;
    expect(bench.leaser.held).toBe(1);
    release();
    expect(await outcome(first.channel)).toBeUndefined();
    expect(guest.registrations).toHaveLength(1);
  });

  test('while it is provisioning, or building, connections are closed and the lease returned', async () => {
    const provisioning = guestThat('g1', builds);
    const begun = deferred<null>();
    const building = guestThat('g2', async (daemon, version) => {
      await daemon.run(decodeBuildDerivation(version));
      begun.resolve(null);
      await daemon.run(decodeOp());
    });
    for (const [guest, reached] of [
      [provisioning, hangsInRegister(provisioning).reached],
      [building, begun.promise],
    ] as const) {
      const bench = benchWith(guest);
      const { channel, stream, served } = await bench.client();
      await channel.write(buildRequest({ inputs: [onHost(bench, 'input')] }));
      await reached;
      expect([bench.leaser.held, guest.daemon.open.size]).toEqual([1, 1]);
      stream.destroy();
      await served;
      expect(bench.leaser.held).toBe(0);
      await waitUntil(
        'the end of all connections',
        () => guest.daemon.open.size === 0 && bench.hostDaemon.open.size === 0,
      );
    }
  });
});

describe('when a guest is lost', () => {
  test('before the connection is up, the build runs in another one', async () => {
    const unreachable = guestThat('g1', builds);
    unreachable.openDaemon = () => Promise.reject(new Error('connect ECONNREFUSED'));
    const bench = benchWith(unreachable, guestThat('g2', builds));
    const { channel } = await bench.client();
    await channel.write(buildRequest());
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'lost' }]);
    expect(bench.leaser.held).toBe(1);
  });

  test('while it hangs in the middle of provisioning, the build starts again in another one', async () => {
    const hanging = guestThat('g1', builds);
    const { reached } = hangsInRegister(hanging);
    const bench = benchWith(hanging, guestThat('g2', builds));
    const { channel } = await bench.client();
    await channel.write(buildRequest({ inputs: [onHost(bench, 'input')] }));
    await reached;
    hanging.lose();
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.events).toContainEqual({ type: 'build-replayed', guest: 'g1', cause: 'lost' });
  });

  test.each(['GUEST_AGENT_FAILED', 'GUEST_EXEC_FAILED'] as const)(
    'though it lives, in that it does not do as it is told (%s): the build starts again in another one',
    async (code) => {
      const broken = guestThat('g1', builds);
      const refusal = new DroverError(code, 'drover-guest register failed in the guest');
      broken.beforeRegister = () => Promise.reject(refusal);
      const bench = benchWith(broken, guestThat('g2', builds));
      const { channel } = await bench.client();
      await channel.write(buildRequest({ inputs: [onHost(bench, 'input')] }));
      const result = outcome(channel).then((error) => ({ error }));
      // When the guest is given up depends on files that are really read: time goes on until it is.
      const { error } = await waitUntil('the second guest', async () => {
        await bench.clock.advance(1000);
        return await Promise.race([result, Promise.resolve(undefined)]);
      });
      expect(error).toBeUndefined();
      expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'lost' }]);
    },
  );

  test('reports GUEST_LOST and returns every lease after three losses', async () => {
    const bench = new FrontBench();
    bench.leaser.next = () => {
      const guest = guestThat(`g${bench.leaser.granted + 1}`, async (daemon, version) => {
        await daemon.run(decodeBuildDerivation(version));
        guest.lose();
      });
      return guest;
    };
    const { channel, served } = await bench.client();
    await channel.write(buildRequest());
    expect(await outcome(channel)).toContain('The guest g3 was lost: unplugged');
    channel.end();
    await served;
    expect([bench.leaser.granted, bench.leaser.held]).toEqual([3, 0]);
    expect(bench.events).toContainEqual(expect.objectContaining({ type: 'build-finished', result: 'Lost' }));
  });

  test('the activities that it had begun are ended for the client', async () => {
    const activity = { id: 7n, level: 3, type: 105, text: '', fields: [], parent: 0n };
    const seen = deferred<null>();
    const dying = guestThat('g1', async (daemon, version) => {
      await daemon.run(decodeBuildDerivation(version));
      await daemon.write(encodeStderrFrame({ kind: 'start-activity', activity }));
      await seen.promise;
      dying.lose();
    });
    const bench = benchWith(dying, guestThat('g2', builds));
    const { channel } = await bench.client();
    await channel.write(buildRequest());
    const start = encodeStderrFrame({ kind: 'start-activity', activity });
    const stop = encodeStderrFrame({ kind: 'stop-activity', id: 7n });
    let told = Buffer.alloc(0);
    while (!told.includes(BUILT)) {
      told = Buffer.concat([told, ...(await channel.readSome())]);
      if (told.includes(start)) seen.resolve(null);
    }
    expect(told.indexOf(stop)).toBeGreaterThan(0);
    expect(told.toString('latin1')).toContain('building again in another guest (1 of 2)');
  });
});

describe('what a guest holds from an earlier use', () => {
  async function sharing(path: StorePath): Promise<BenchGuest> {
    const guest = guestThat('g1', builds);
    const bench = benchWith(guest);
    bench.hostDaemon.paths.set(path, { info: pathInfo(path), nar: Buffer.alloc(112) });
    const { channel, stream, served } = await bench.client();
    await channel.write(buildRequest({ inputs: [path] }));
    expect(await outcome(channel)).toBeUndefined();
    stream.destroy();
    await served;
    return guest;
  }

  test('is not mistaken for a build of it: another guest builds, and that one is retired', async () => {
    const output = storePath('output');
    const bench = benchWith(await sharing(output), guestThat('g2', builds));
    const { channel } = await bench.client();
    await channel.write(buildRequest({ output }));
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'conflict' }]);
    expect(bench.events).toContainEqual(expect.objectContaining({ type: 'build-finished', guest: 'g2' }));
  });

  test('is reported to a client that has already uploaded there, and that guest is retired', async () => {
    const output = storePath('output');
    const shared = await sharing(output);
    shared.daemon.handlers.set(99, async (daemon) => {
      await daemon.write(LAST);
    });
    const bench = benchWith(shared);
    const { channel } = await bench.client();
    // A first build binds the session to the guest.
    await channel.write(buildRequest());
    expect(await outcome(channel)).toBeUndefined();
    await channel.run(decodeAll(BUILT.length));
    await channel.write(buildRequest({ output }));
    expect(await outcome(channel)).toContain('Start the build again: it gets another guest');
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'conflict' }]);
  });

  test('that no build of the client has made there is not mistaken for its result: another guest builds', async () => {
    const output = storePath('output');
    const guest = guestThat('g1', builds);
    guest.daemon.paths.set(output, { info: pathInfo(output), nar: NAR });
    const bench = benchWith(guest, guestThat('g2', builds));
    const { channel } = await bench.client();
    await channel.write(buildRequest({ output }));
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'conflict' }]);
    expect(bench.events).toContainEqual(expect.objectContaining({ type: 'build-finished', guest: 'g2' }));
    expect(guest.daemon.asked).not.toContain(Op.BuildDerivation);
  });

  test('that a build of the client has made there is its result again, and not that of another client', async () => {
    const output = storePath('output');
    const guest = guestThat('g1', async (daemon, version) => {
      guest.daemon.paths.set(output, { info: pathInfo(output), nar: NAR });
      await builds(daemon, version);
    });
    const bench = benchWith(guest, guest, guest, guestThat('g2', builds));
    for (const domain of ['uid:0', 'uid:0', 'uid:1']) {
      const { channel, stream, served } = await bench.client({ ...HOST_CLIENT, domain });
      await channel.write(buildRequest({ output }));
      expect(await outcome(channel)).toBeUndefined();
      stream.destroy();
      await served;
    }
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'conflict' }]);
    expect(guest.daemon.asked.filter((op) => op === Op.BuildDerivation)).toHaveLength(2);
  });

  test('with other contents than on the host: another guest builds', async () => {
    const input = storePath('input');
    const guest = guestThat('g1', builds);
    guest.daemon.paths.set(input, {
      info: pathInfo(input, { narHash: 'b'.repeat(64) }),
      nar: Buffer.alloc(112),
    });
    const bench = benchWith(guest, guestThat('g2', builds));
    bench.hostDaemon.paths.set(input, { info: pathInfo(input), nar: Buffer.alloc(112) });
    const { channel } = await bench.client();
    await channel.write(buildRequest({ inputs: [input] }));
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'conflict' }]);
  });
});

function* decodeAll(bytes: number): Generator<number, void, Uint8Array> {
  yield bytes;
}

describe('a guest whose nix-daemon does not answer the handshake', () => {
  test('is retired after 20 s, and another one builds', async () => {
    const hanging = guestThat('g1', builds);
    const asked = silence(hanging);
    const bench = benchWith(hanging, guestThat('g2', builds));
    const { channel } = await bench.client();
    await channel.write(buildRequest());
    await asked;
    await bench.clock.advance(19_999);
    expect(bench.leaser.retired).toEqual([]);
    await bench.clock.advance(1);
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'lost' }]);
  });

  test('has 120 s at most while others of its handshakes are completed', async () => {
    const slow = guestThat('g1', builds);
    const asked = silence(slow);
    const bench = benchWith(slow, guestThat('g2', builds));
    const { channel } = await bench.client();
    await channel.write(buildRequest());
    await asked;
    for (let waited = 20_000; waited < 120_000; waited += 20_000) {
      slow.handshakes.noteCompleted();
      await bench.clock.advance(20_000);
    }
    slow.handshakes.noteCompleted();
    await bench.clock.advance(19_999);
    expect(bench.leaser.retired).toEqual([]);
    await bench.clock.advance(1);
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'lost' }]);
  });

  test('gets its time again if the supervisor itself was stopped meanwhile', async () => {
    const hanging = guestThat('g1', builds);
    const asked = silence(hanging);
    const bench = benchWith(hanging);
    const { channel } = await bench.client();
    await channel.write(buildRequest());
    await asked;
    bench.clock.skip(65_000);
    await bench.clock.advance(19_999);
    expect(bench.leaser.retired).toEqual([]);
    await bench.clock.advance(1);
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'lost' }]);
  });
});

describe('a build that waits for a lease', () => {
  test("is counted by its client's limit, and its client is told of its place when it changes", async () => {
    const bench = new FrontBench();
    bench.leaser.paused = true;
    const { channel } = await bench.client();
    await channel.write(buildRequest());
    await waitUntil('a request for a lease', () => bench.leaser.waiting.length === 1);
    const [waiter] = bench.leaser.waiting;
    let before = 2;
    waiter?.request.onWait?.(() => ({ before, reason: '1 of 1 guest is full' }));
    await bench.clock.advance(2_000);
    await bench.clock.advance(10_000);
    before = 1;
    await bench.clock.advance(10_000);
    const heard = [await channel.run(decodeStderrFrame()), await channel.run(decodeStderrFrame())];
    expect(heard.map((frame) => (frame.kind === 'next' ? frame.text : frame.kind))).toEqual([
      'drover: waiting for room: 2 before it (1 of 1 guest is full)\n',
      'drover: waiting for room: 1 before it (1 of 1 guest is full)\n',
    ]);
    expect(waiter?.request).toMatchObject({ domain: 'uid:0', alone: false });
  });
});

describe('a guest without space', () => {
  const full: Handler = async (daemon, version) => {
    await daemon.run(decodeBuildDerivation(version));
    await daemon.write(encodeErrorFrame('writing to file: No space left on device'));
  };

  test('that others use too is replaced by one for this build alone, also if Nix fails in its own words', async () => {
    const bench = benchWith(guestThat('g1', full), guestThat('g2', builds));
    bench.leaser.shared = true;
    const { channel } = await bench.client();
    await channel.write(buildRequest());
    expect(await outcome(channel)).toBeUndefined();
    expect(bench.leaser.requests.map(({ alone }) => alone)).toEqual([false, true]);
    expect(bench.leaser.retired).toEqual([{ guest: 'g1', reason: 'scratch' }]);
  });

  test('that the build had for itself is an error with advice', async () => {
    const bench = benchWith(guestThat('g1', full));
    const { channel } = await bench.client();
    await channel.write(buildRequest());
    expect(await outcome(channel)).toBe(
      "writing to file: No space left on device\ndrover: the guest's scratch is full; raise guest.scratchSize in Drover's configuration",
    );
  });
});

/** Its daemon reads and never answers. @returns a promise that settles when it is connected to */
async function silence(guest: BenchGuest): Promise<void> {
  const asked = deferred<undefined>();
  guest.openDaemon = () => {
    const [client, server] = connectedPair();
    server.resume();
    // The handshake has been sent.
    server.once('data', () => {
      asked.resolve(undefined);
    });
    return Promise.resolve(client);
  };
  await asked.promise;
}
