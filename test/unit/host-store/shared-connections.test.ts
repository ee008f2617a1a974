import { expect, test } from '@jest/globals';

import { SharedConnections } from '../../../src/host-store/shared-connections.js';
import type { WorkerClient } from '../../../src/daemon/worker-client.js';
import type { PathInfo } from '../../../src/protocol/path-info.js';
import type { StorePath } from '../../../src/protocol/store-path.js';
import { FakeClock, settled } from '../../support/fake-clock.js';

/** As much of a connection as sharing it takes. The paths with `valid` in them are valid. */
class FakeConnection {
  readonly controller = new AbortController();
  readonly gone = this.controller.signal;
  readonly asked: string[] = [];

  queryValidPaths(paths: readonly string[]): Promise<string[]> {
    this.asked.push(...paths.map((path) => `valid? ${path}`));
    return Promise.resolve(paths.filter((path) => path.includes('valid')));
  }

  queryPathInfos(paths: readonly string[]): Promise<(PathInfo | undefined)[]> {
    this.asked.push(...paths.map((path) => `info ${path}`));
    const infos = paths.map((path) => (path.includes('valid') ? ({ narHash: path } as PathInfo) : undefined));
    return Promise.resolve(infos);
  }

  addTempRoots(paths: readonly string[]): Promise<void> {
    this.asked.push(...paths.map((path) => `pin ${path}`));
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.controller.abort();
    return Promise.resolve();
  }
}

const [valid1, valid2, other] = ['valid1', 'valid2', 'other'] as [StorePath, StorePath, StorePath];

function setUp() {
  const opened: FakeConnection[] = [];
  const clock = new FakeClock(0);
  const shared = new SharedConnections(() => {
    const connection = new FakeConnection();
    opened.push(connection);
    return Promise.resolve(connection as unknown as WorkerClient);
  }, clock);
  return { opened, clock, shared };
}

test('sessions that overlap use one connection, which ends with the last of them', async () => {
  const { opened, shared } = setUp();
  const [first, second] = await Promise.all([shared.use('uid:0'), shared.use('uid:0')]);
  await first[Symbol.asyncDispose]();
  await first[Symbol.asyncDispose]();
  expect(opened[0]?.gone.aborted).toBe(false);
  await second[Symbol.asyncDispose]();
  expect(opened[0]?.gone.aborted).toBe(true);
  expect(opened.slice(1).map(({ asked, gone }) => [asked, gone.aborted])).toEqual([[[], false]]);
});

test('sessions of different trust domains never use the same connection', async () => {
  const { opened, shared } = setUp();
  const [first, second, third] = await Promise.all(
    ['uid:0', 'key:a', 'uid:0'].map((domain) => shared.use(domain)),
  );
  await first?.addTempRoots([valid1]);
  await second?.addTempRoots([valid2]);
  await third?.addTempRoots([valid1, other]);
  const asked = opened.map((connection) => connection.asked).filter((questions) => questions.length > 0);
  expect(asked).toEqual([['pin valid1', 'pin other'], ['pin valid2']]);
  // A question that the daemon cannot survive ends the sessions of its own domain only.
  opened.find(({ asked: [question] }) => question === 'pin valid2')?.controller.abort();
  expect([first, second, third].map((connection) => connection?.gone.aborted)).toEqual([false, true, false]);
});

test('each later session finds a prepared, unused connection', async () => {
  const { opened, shared } = setUp();
  for (let session = 1; session <= 5; session++) {
    const connection = await shared.use('uid:0');
    await connection.addTempRoots([valid1]);
    // Its own, and the one for the next session.
    expect(opened).toHaveLength(session + 1);
    expect(opened.map(({ asked }) => asked.length)).toEqual([...Array<number>(session).fill(1), 0]);
    await connection[Symbol.asyncDispose]();
    expect(opened.map(({ gone }) => gone.aborted)).toEqual([...Array<boolean>(session).fill(true), false]);
  }
});

test('a connection kept for the next session ends when none comes', async () => {
  const { opened, clock, shared } = setUp();
  const first = await shared.use('uid:0');
  await clock.advance(120_000);
  expect(opened.map(({ gone }) => gone.aborted)).toEqual([false, false]);
  await first[Symbol.asyncDispose]();
  await clock.advance(60_000);
  expect(opened.map(({ gone }) => gone.aborted)).toEqual([true, true]);
  expect(clock.pendingTimers).toBe(0);
  await shared.use('uid:0');
  expect(opened.map(({ gone }) => gone.aborted)).toEqual([true, true, false, false]);
});

test('a connection kept for the next session that ends by itself is not given to it', async () => {
  const { opened, clock, shared } = setUp();
  await (await shared.use('uid:0'))[Symbol.asyncDispose]();
  opened[1]?.controller.abort();
  expect(clock.pendingTimers).toBe(0);
  expect((await shared.use('uid:0')).gone.aborted).toBe(false);
  expect(opened.map(({ gone }) => gone.aborted)).toEqual([true, true, false, false]);
});

test('nothing is kept for later sessions once it was closed', async () => {
  const { opened, clock, shared } = setUp();
  const last = await shared.use('uid:0');
  shared.close();
  await last[Symbol.asyncDispose]();
  await (await shared.use('uid:0'))[Symbol.asyncDispose]();
  await settled();
  expect(opened.every(({ gone }) => gone.aborted)).toBe(true);
  expect(clock.pendingTimers).toBe(0);
});

test('a prepared connection ends on close', async () => {
  const { opened, clock, shared } = setUp();
  await (await shared.use('uid:0'))[Symbol.asyncDispose]();
  shared.close();
  await settled();
  expect(opened.every(({ gone }) => gone.aborted)).toBe(true);
  expect(clock.pendingTimers).toBe(0);
});

test('a pinned path is queried once, since it cannot disappear', async () => {
  const { opened, shared } = setUp();
  const [first, second] = await Promise.all([shared.use('uid:0'), shared.use('uid:0')]);
  const asked = opened[0]?.asked ?? [];
  await first.addTempRoots([valid1, other]);
  expect(await first.queryPathInfos([other, valid1])).toEqual([undefined, { narHash: 'valid1' }]);
  asked.length = 0;
  await second.addTempRoots([valid1, valid2]);
  expect(await second.queryPathInfos([valid2, valid1, other])).toEqual([
    { narHash: 'valid2' },
    { narHash: 'valid1' },
    undefined,
  ]);
  expect(await second.queryValidPaths([other, valid2, valid1])).toEqual([valid2, valid1]);
  expect(asked).toEqual(['pin valid2', 'info valid2', 'info other', 'valid? other']);
});

test('an unpinned path is queried each time, since it may be collected', async () => {
  const { opened, shared } = setUp();
  const client = await shared.use('uid:0');
  await client.queryPathInfos([valid1]);
  await client.queryPathInfos([valid1]);
  await client.queryValidPaths([valid1]);
  expect(opened[0]?.asked).toEqual(['info valid1', 'info valid1', 'valid? valid1']);
});

test('pins do not outlive their session for long: later sessions get another connection', async () => {
  const { opened, clock, shared } = setUp();
  const first = await shared.use('uid:0');
  await clock.advance(10_000);
  const second = await shared.use('uid:0');
  await first[Symbol.asyncDispose]();
  expect(opened.slice(0, 2).map(({ gone }) => gone.aborted)).toEqual([true, false]);
  await second[Symbol.asyncDispose]();
});

test('a connection that has ended is not reused', async () => {
  const { opened, shared } = setUp();
  const first = await shared.use('uid:0');
  opened[0]?.controller.abort();
  const second = await shared.use('uid:0');
  expect(first.gone.aborted).toBe(true);
  expect(second.gone.aborted).toBe(false);
});

test('a long operation has its own connection, which ends with it', async () => {
  const { opened, shared } = setUp();
  const client = await shared.use('uid:0');
  expect(await client.queryValidPaths([valid1, other], true)).toEqual([valid1]);
  // Its own, the one for the next session, and the one of this operation.
  expect(opened.map(({ asked }) => asked.length)).toEqual([0, 0, 2]);
  expect(opened.map(({ gone }) => gone.aborted)).toEqual([false, false, true]);
});
