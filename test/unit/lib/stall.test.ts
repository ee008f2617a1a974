import { expect, test } from '@jest/globals';

import { whenStalled } from '../../../src/lib/stall.js';
import { FakeClock } from '../../support/fake-clock.js';

test('acts when there was no progress for the timeout, and not before', async () => {
  const clock = new FakeClock();
  let [progress, stalls] = [0, 0];
  whenStalled(
    clock,
    () => String(progress),
    800,
    () => (stalls += 1),
  );
  for (let turn = 0; turn < 10; turn++) {
    await clock.advance(700);
    progress += 1;
    await clock.advance(100);
  }
  expect(stalls).toBe(0);
  await clock.advance(699);
  expect(stalls).toBe(0);
  await clock.advance(200);
  expect(stalls).toBe(1);
  await clock.advance(10_000);
  expect(stalls).toBe(1);
});

test('acts at once without a timeout, and never when it was cancelled', async () => {
  const clock = new FakeClock();
  let stalls = 0;
  const count = (): void => void (stalls += 1);
  whenStalled(clock, () => '', 0, count);
  await clock.advance(0);
  expect(stalls).toBe(1);
  whenStalled(clock, () => '', 100, count)();
  await clock.advance(1000);
  expect(stalls).toBe(1);
});
