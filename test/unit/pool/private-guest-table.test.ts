import { PassThrough } from 'node:stream';

import { expect, test } from '@jest/globals';

import type { Machine, MachineEnd } from '../../../src/guest/driver.js';
import { deferred } from '../../support/deferred.js';
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

test('a machine is listed until it has ended, and one that does not start is not', async () => {
  const harness = new Harness();
  const end = deferred<MachineEnd>();
  const machine: Machine = {
    output: new PassThrough(),
    input: new PassThrough(),
    ended: end.promise,
    kill: () => Promise.resolve(),
  };
  const options = {
    slot: 0,
    kernelParameters: [],
    share: undefined,
    signal: new AbortController().signal,
  };
  harness.driver.startMachine = () => Promise.resolve(machine);
  expect(await harness.pool.startMachine(harness.driver, 'box', options)).toBe(machine);
  expect(harness.pool.snapshot().programs).toMatchObject([{ id: 'g1', program: 'box', memory: null }]);
  end.resolve({ poweredOff: true, how: 'its QEMU: it ended with exit status 0' });
  await settled();
  expect(harness.pool.snapshot().programs).toEqual([]);
  harness.driver.startMachine = () => Promise.reject(new Error('no memory'));
  await expect(harness.pool.startMachine(harness.driver, 'box', options)).rejects.toThrow('no memory');
  expect(harness.pool.snapshot().programs).toEqual([]);
  const types = harness.events.map(({ type }) => type).filter((type) => type.startsWith('program-'));
  expect(types).toEqual(['program-started', 'program-ended', 'program-started', 'program-ended']);
});
