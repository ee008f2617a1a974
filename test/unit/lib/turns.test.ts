import { expect, test } from '@jest/globals';

import { inTurns, slicesOf } from '../../../src/lib/turns.js';

/** Keeps the event loop for so long. */
function work(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until;);
}

test('work on many items lets others have their turn, and keeps the order', async () => {
  const done: number[] = [];
  let others = 0;
  let over = false;
  const other = (): void => {
    others += 1;
    if (!over) setImmediate(other);
  };
  setImmediate(other);
  await inTurns(Array(100).keys(), (item, index) => {
    work(1);
    done.push(item);
    expect(index).toBe(item);
  });
  over = true;
  expect(done).toEqual([...Array(100).keys()]);
  expect(others).toBeGreaterThan(1);
});

test('work on few items needs no turn of its own', async () => {
  let turns = 0;
  setImmediate(() => (turns += 1));
  await inTurns([1, 2, 3], () => undefined);
  expect(turns).toBe(0);
});

test('cuts a list into slices, the last of which may be shorter', () => {
  expect([...slicesOf([1, 2, 3, 4, 5], 2)]).toEqual([[1, 2], [3, 4], [5]]);
  expect([...slicesOf([], 2)]).toEqual([]);
});
