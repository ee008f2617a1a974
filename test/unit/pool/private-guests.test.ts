import { expect, test } from '@jest/globals';

import { settled } from '../../support/fake-clock.js';
import { eventText, Harness } from './harness.js';

const REQUEST = {
  own: { binds: [], hostNetwork: false },
  program: 'hello/bin/hello',
  signal: new AbortController().signal,
};

test('the guest of a program is in the books from its boot to its end, beside those for builds', async () => {
  const harness = new Harness();
  const booting = harness.pool.bootPrivate(harness.driver, REQUEST);
  expect(harness.pool.snapshot()).toMatchObject({
    guests: [],
    programs: [{ id: 'g1', program: 'hello/bin/hello', bootedAt: null, memory: null }],
  });
  await harness.boot('g1');
  const guest = await booting;
  harness.driver.guestOf('g1').scratchUsedRatio = 0.5;
  // Not before: a program that ends at once costs nothing.
  expect(harness.driver.guestOf('g1').calls).not.toContain('stats');
  await harness.clock.advance(5_000);
  expect(harness.pool.snapshot().programs).toMatchObject([
    { bootedAt: expect.any(String), scratch: { usedBytes: 500, totalBytes: 1000 } },
  ]);
  await guest[Symbol.asyncDispose]();
  expect(harness.pool.snapshot().programs).toEqual([]);
  const { calls } = harness.driver.guestOf('g1');
  const asked = calls.length;
  await harness.clock.advance(60_000);
  expect(calls).toHaveLength(asked);
  expect(harness.events.map(eventText)).toEqual(['g1 is for hello/bin/hello', 'g1 of hello/bin/hello ended']);
});

test('the guest of a program that does not boot leaves the books', async () => {
  const harness = new Harness();
  const booting = harness.pool.bootPrivate(harness.driver, REQUEST);
  const failed = expect(booting).rejects.toMatchObject({ code: 'BOOT_FAILED' });
  await harness.failBoot('g1', 'it was killed by SIGKILL');
  await failed;
  await settled();
  expect(harness.pool.snapshot().programs).toEqual([]);
});
