import { EventEmitter } from 'node:events';

import { expect, test } from '@jest/globals';

import type { WorkerClient } from '../../../src/daemon/worker-client.js';
import { SpareConnection } from '../../../src/host-store/spare-connection.js';
import { FakeClock, settled } from '../../support/fake-clock.js';

/** The part of a connection that a spare one takes. */
class FakeConnection {
  readonly controller = new AbortController();
  readonly gone = this.controller.signal;
  readonly channel = { stream: new EventEmitter() };

  [Symbol.asyncDispose](): Promise<void> {
    this.controller.abort();
    this.channel.stream.emit('close');
    return Promise.resolve();
  }
}

function setUp() {
  const opened: FakeConnection[] = [];
  const clock = new FakeClock(0);
  const state = { fails: false };
  const spare = new SpareConnection(() => {
    if (state.fails) return Promise.reject(new Error('no daemon'));
    const connection = new FakeConnection();
    opened.push(connection);
    return Promise.resolve(connection as unknown as WorkerClient);
  }, clock);
  return { opened, clock, spare, state };
}

test("is opened when a session ends, and is the next one's alone", async () => {
  const { opened, spare } = setUp();
  const first = await spare.connect();
  expect(opened).toHaveLength(1);
  await first[Symbol.asyncDispose]();
  expect(opened).toHaveLength(2);
  const [second, third] = [await spare.connect(), await spare.connect()];
  expect([second, third]).toEqual([opened[1], opened[2]]);
  expect(second).not.toBe(third);
});

test('ends after a minute without a session, or at once when it is closed', async () => {
  const { opened, clock, spare } = setUp();
  await (await spare.connect())[Symbol.asyncDispose]();
  await clock.advance(59_999);
  expect(opened[1]?.gone.aborted).toBe(false);
  await clock.advance(1);
  expect(opened[1]?.gone.aborted).toBe(true);
  await (await spare.connect())[Symbol.asyncDispose]();
  await spare.close();
  expect(opened.map(({ gone }) => gone.aborted)).toEqual([true, true, true, true]);
  expect(clock.pendingTimers).toBe(0);
});

test('is replaced if the daemon has ended it, and leaves its failure to the next session', async () => {
  const { opened, spare, state } = setUp();
  await (await spare.connect())[Symbol.asyncDispose]();
  opened[1]?.controller.abort();
  const next = await spare.connect();
  expect(next).toBe(opened[2]);
  state.fails = true;
  await next[Symbol.asyncDispose]();
  await settled();
  await expect(spare.connect()).rejects.toThrow('no daemon');
  state.fails = false;
  expect(await spare.connect()).toBe(opened[3]);
});
