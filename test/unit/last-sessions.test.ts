import { expect, test } from '@jest/globals';

import type { FrontEvent } from '../../src/front/events.js';
import { lastSessions } from '../../src/last-sessions.js';
import { Emitter } from '../../src/lib/emitter.js';
import { FakeClock, settled } from '../support/fake-clock.js';

class Bench {
  readonly clock = new FakeClock();
  readonly front = { sessions: 0, events: new Emitter<FrontEvent>() };
  busy = 0;
  progress = 0;
  readonly over = new AbortController();
  ended = false;

  begin(): void {
    const { front, clock } = this;
    void lastSessions({
      ...{ front, clock, over: this.over.signal },
      busy: () => this.busy,
      progress: () => String(this.progress),
    }).then(() => (this.ended = true));
  }

  close(): void {
    this.front.sessions -= 1;
    this.front.events.emit({
      type: 'session-closed',
      door: 'socket',
      error: undefined,
      receivedBytes: 0,
      sentBytes: 0,
    });
  }
}

test('settles at once without sessions, and else when the last one has closed', async () => {
  const [none, two] = [new Bench(), new Bench()];
  none.begin();
  two.front.sessions = 2;
  two.busy = 1;
  two.begin();
  two.close();
  await settled();
  expect([none.ended, two.ended]).toEqual([true, false]);
  two.close();
  await settled();
  expect(two.ended).toBe(true);
  expect(two.clock.pendingTimers).toBe(0);
});

test('waits for sessions that have a guest, wait for one or say something, and not for silent ones', async () => {
  const bench = new Bench();
  bench.front.sessions = 1;
  bench.begin();
  for (let turn = 0; turn < 5; turn++) {
    bench.progress += 1;
    await bench.clock.advance(3_000);
  }
  bench.busy = 1;
  await bench.clock.advance(60_000);
  expect(bench.ended).toBe(false);
  bench.busy = 0;
  await bench.clock.advance(5_000);
  expect(bench.ended).toBe(true);
});

test('waits a minute for sessions that go on talking, and ask for no guest', async () => {
  const bench = new Bench();
  bench.front.sessions = 1;
  bench.busy = 1;
  bench.begin();
  await bench.clock.advance(600_000);
  bench.busy = 0;
  const talk = async (seconds: number): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      bench.progress += 1;
      await bench.clock.advance(1_000);
    }
  };
  await talk(55);
  expect(bench.ended).toBe(false);
  await talk(15);
  expect(bench.ended).toBe(true);
});

test('waits no longer once all guests are ended', async () => {
  const [before, after] = [new Bench(), new Bench()];
  for (const bench of [before, after]) {
    bench.front.sessions = 1;
    bench.busy = 1;
  }
  before.over.abort();
  before.begin();
  after.begin();
  await settled();
  expect([before.ended, after.ended]).toEqual([true, false]);
  after.over.abort();
  await settled();
  expect(after.ended).toBe(true);
  expect(after.clock.pendingTimers).toBe(0);
});
