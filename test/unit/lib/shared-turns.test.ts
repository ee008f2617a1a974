import { expect, test } from '@jest/globals';

import { SharedTurns } from '../../../src/lib/shared-turns.js';

/** Keeps the event loop for this long, in milliseconds. */
function work(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

test('lets work begin at once until the slice is used up, and then in turns, in order', async () => {
  const turns = new SharedTurns();
  const began: number[] = [];
  let loops = 0;
  const count = (): void => {
    loops += 1;
    if (began.length < 20) setImmediate(count);
  };
  setImmediate(count);
  const all = Array.from({ length: 20 }, async (_, index) => {
    const pause = turns.next();
    if (pause !== undefined) await pause;
    began.push(index);
    if (index === 0) work(11);
  });
  expect(began).toEqual([0]);
  await Promise.all(all);
  expect(began).toEqual([...Array(20).keys()]);
  expect(loops).toBeGreaterThanOrEqual(3);
});

test('begins a new slice in the next turn of the event loop', async () => {
  const turns = new SharedTurns();
  expect(turns.next()).toBeUndefined();
  work(11);
  await turns.next();
  await new Promise((resolve) => setImmediate(resolve));
  expect(turns.next()).toBeUndefined();
});
