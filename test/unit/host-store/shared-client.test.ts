import { expect, test } from '@jest/globals';

import { SharedConnections } from '../../../src/host-store/shared-client.js';
import type { WorkerClient } from '../../../src/host-store/worker-client.js';
import { FakeClock } from '../../support/fake-clock.js';

/** As much of a connection as sharing it takes. */
class FakeConnection {
  readonly controller = new AbortController();
  readonly gone = this.controller.signal;
  asked = 0;

  queryValidPaths(): Promise<never[]> {
    this.asked += 1;
    return Promise.resolve([]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.controller.abort();
    return Promise.resolve();
  }
}

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
  const [first, second] = await Promise.all([shared.use(), shared.use()]);
  expect(opened).toHaveLength(1);
  await first[Symbol.asyncDispose]();
  await first[Symbol.asyncDispose]();
  expect(opened[0]?.gone.aborted).toBe(false);
  await second[Symbol.asyncDispose]();
  expect(opened[0]?.gone.aborted).toBe(true);
  await shared.use();
  expect(opened).toHaveLength(2);
});

test('pins do not outlive their session for long: later sessions get another connection', async () => {
  const { opened, clock, shared } = setUp();
  const first = await shared.use();
  await clock.advance(10_000);
  const second = await shared.use();
  expect(opened).toHaveLength(2);
  await first[Symbol.asyncDispose]();
  expect(opened.map(({ gone }) => gone.aborted)).toEqual([true, false]);
  await second[Symbol.asyncDispose]();
});

test('a connection that has ended is not given to anybody', async () => {
  const { opened, shared } = setUp();
  const first = await shared.use();
  opened[0]?.controller.abort();
  const second = await shared.use();
  expect(first.gone.aborted).toBe(true);
  expect(second.gone.aborted).toBe(false);
});

test('what takes long has a connection of its own, which ends with it', async () => {
  const { opened, shared } = setUp();
  const client = await shared.use();
  await client.queryValidPaths([], true);
  expect(opened.map(({ asked }) => asked)).toEqual([0, 1]);
  expect(opened.map(({ gone }) => gone.aborted)).toEqual([false, true]);
});
