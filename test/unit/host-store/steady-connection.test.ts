import { expect, test } from '@jest/globals';

import { WorkerClient } from '../../../src/daemon/worker-client.js';
import { SteadyConnection } from '../../../src/host-store/steady-connection.js';
import { Op } from '../../../src/protocol/operations.js';
import { LATEST_VERSION } from '../../../src/protocol/version.js';
import { FakeClock, settled } from '../../support/fake-clock.js';
import { narFacts, narOf } from '../../support/nar.js';
import { LAST, pathInfo, ScriptedDaemon, storePath } from '../../support/scripted-daemon.js';
import { waitUntil } from '../../support/wait.js';

const NAR = narOf(Buffer.alloc(500_000, 'x'));
const path = storePath('input');

function setUp() {
  const daemon = new ScriptedDaemon();
  daemon.paths.set(path, { info: pathInfo(path, narFacts(NAR)), nar: NAR });
  const over = new AbortController();
  const clock = new FakeClock();
  let away = false;
  const steady = new SteadyConnection({
    over: over.signal,
    clock,
    connect: async () => {
      if (away) throw new Error('connection refused');
      return await WorkerClient.connect(daemon.connect(), LATEST_VERSION, "The host's nix-daemon");
    },
  });
  const pins = (): number => daemon.asked.filter((op) => op === Op.AddTempRoot).length;
  return { daemon, over, clock, steady, pins, leave: (is: boolean) => (away = is) };
}

test('asks again on a new connection, and pins again first', async () => {
  const { daemon, steady, pins } = setUp();
  await steady.addTempRoots([path]);
  await steady.queryPathInfos([path]);
  let deaths = 2;
  daemon.handlers.set(Op.QueryValidPaths, async (channel) => {
    if (deaths-- > 0) channel.destroy();
    else {
      daemon.handlers.delete(Op.QueryValidPaths);
      await channel.write(LAST);
      channel.destroy();
    }
  });
  expect(await steady.queryValidPaths([path])).toEqual([path]);
  expect(pins()).toBe(daemon.connections);
  // It pins, looks whether everything is still there, and answers.
  expect(daemon.asked.slice(-3)).toEqual([Op.AddTempRoot, Op.QueryValidPaths, Op.QueryValidPaths]);
});

test('gives up when the daemon ends each time', async () => {
  const { daemon, steady } = setUp();
  daemon.handlers.set(Op.QueryValidPaths, (channel) => {
    channel.destroy();
    return Promise.resolve();
  });
  await expect(steady.queryValidPaths([path])).rejects.toMatchObject({ code: 'PROTOCOL_TRUNCATED' });
  expect(daemon.connections).toBe(4);
});

test('pins again at once while a session asks nothing, as soon as a daemon answers', async () => {
  const { clock, daemon, steady, pins, leave } = setUp();
  await steady.addTempRoots([path]);
  leave(true);
  daemon.die();
  await settled();
  await clock.advance(5_000);
  expect(pins()).toBe(1);
  leave(false);
  await clock.advance(1_000);
  await waitUntil('the pin', () => pins() === 2);
});

test('continues a NAR at the byte where the daemon ended', async () => {
  const { daemon, steady } = setUp();
  daemon.handlers.set(Op.NarFromPath, async (channel) => {
    daemon.handlers.delete(Op.NarFromPath);
    await channel.write(Buffer.concat([LAST, NAR.subarray(0, 100_001)]));
    channel.end();
  });
  const parts: Uint8Array[] = [];
  for await (const part of steady.narFromPath(path, narFacts(NAR))) parts.push(Buffer.from(part));
  expect(Buffer.concat(parts).equals(NAR)).toBe(true);
  expect(daemon.connections).toBe(2);
});

test('answers nothing any more when a path was collected while no daemon pinned it', async () => {
  const { daemon, steady } = setUp();
  await steady.addTempRoots([path]);
  await steady.queryPathInfos([path]);
  daemon.paths.delete(path);
  daemon.die();
  for (let time = 0; time < 2; time++) {
    await expect(steady.queryValidPaths([path])).rejects.toMatchObject({
      code: 'HOST_STORE_UNAVAILABLE',
      message: `${path} was collected on the host while its nix-daemon was away`,
    });
  }
});

test('ends its pins when it is over, and opens no connection again', async () => {
  const { daemon, over, steady } = setUp();
  await steady.addTempRoots([path]);
  over.abort(new Error('the client has gone'));
  await steady[Symbol.asyncDispose]();
  await waitUntil('the end of the connection', () => daemon.open.size === 0);
  await expect(steady.queryValidPaths([path])).rejects.toThrow('the client has gone');
  expect(daemon.connections).toBe(1);
});
