import { expect, test } from '@jest/globals';

import { systemClock } from '../../../src/lib/clock.js';
import { FakeClock } from '../../support/fake-clock.js';

test('the system clock calls once, and not when it was cancelled', async () => {
  const calls: string[] = [];
  const cancel = systemClock.after(0, () => calls.push('cancelled'));
  cancel();
  cancel();
  const before = systemClock.now();
  // A timer of Drover's does not keep a process alive: here this one's own does.
  const awake = setTimeout(() => undefined, 60_000);
  await new Promise<void>((resolve) => systemClock.after(-1, resolve));
  clearTimeout(awake);
  expect(calls).toEqual([]);
  expect(systemClock.now()).toBeGreaterThanOrEqual(before);
  expect(Math.abs(systemClock.wallNow() - Date.now())).toBeLessThan(1000);
});

test('the fake clock fires in order, each timer at its time, also those that a timer sets', async () => {
  const clock = new FakeClock();
  const fired: string[] = [];
  const note = (name: string) => () => fired.push(`${name} at ${clock.now()}`);
  clock.after(20, note('b'));
  clock.after(10, () => {
    note('a')();
    clock.after(5, note('a2'));
  });
  clock.after(20, note('c'));
  clock.after(15, note('never'))();
  clock.after(31, note('later'));
  await clock.advance(30);
  expect(fired).toEqual(['a at 10', 'a2 at 15', 'b at 20', 'c at 20']);
  expect([clock.now(), clock.pendingTimers]).toEqual([30, 1]);
});
