import { describe, expect, test } from '@jest/globals';

import type { GuestDriver } from '../../../src/guest/driver.js';
import { DroverError } from '../../../src/lib/errors.js';
import type { PoolEvent } from '../../../src/pool/events.js';
import { Rollout } from '../../../src/pool/rollout.js';
import { FakeClock, settled } from '../../support/fake-clock.js';
import { FakeDriver } from '../../support/fake-driver.js';
import { SILENT } from '../../support/front-bench.js';

function bench() {
  const trials: { generation: string; signal: AbortSignal; pass: () => void; fail: (why: Error) => void }[] =
    [];
  const adopted: GuestDriver[] = [];
  const events: PoolEvent[] = [];
  const rollout = new Rollout({
    tryOut: async ({ manifest: { generation } }, signal) => {
      await new Promise<void>((pass, fail) => trials.push({ generation, signal, pass, fail }));
    },
    adopt: (driver) => adopted.push(driver),
    emit: (event) => events.push(event),
    clock: new FakeClock(),
    log: SILENT,
  });
  return { rollout, trials, adopted, events };
}

describe('guests of another generation', () => {
  test('are adopted once one of them has passed its trial', async () => {
    const { rollout, trials, adopted, events } = bench();
    const next = new FakeDriver().ofGeneration('next');
    rollout.begin(next);
    await settled();
    expect(rollout.snapshot).toMatchObject({ generation: 'next', state: 'trying', error: null });
    expect(adopted).toEqual([]);
    trials[0]?.pass();
    await settled();
    expect(adopted).toEqual([next]);
    expect(rollout.snapshot).toBeNull();
    expect(events).toEqual([{ type: 'rollout-finished', generation: 'next', result: 'ok', durationMs: 0 }]);
  });

  test('are not adopted if the trial fails, until they are tried again', async () => {
    const { rollout, trials, adopted } = bench();
    const next = new FakeDriver().ofGeneration('next');
    rollout.begin(next);
    await settled();
    trials[0]?.fail(new DroverError('BOOT_FAILED', 'no kernel'));
    await settled();
    expect(rollout.snapshot).toMatchObject({ state: 'failed', error: 'no kernel' });
    rollout.begin(next);
    await settled();
    trials[1]?.pass();
    await settled();
    expect([adopted.length, rollout.snapshot]).toEqual([1, null]);
  });

  test('are given up for those of a later configuration, which wait for the end of the first trial', async () => {
    const { rollout, trials, adopted, events } = bench();
    rollout.begin(new FakeDriver().ofGeneration('a'));
    await settled();
    const later = new FakeDriver().ofGeneration('b');
    rollout.begin(later);
    await settled();
    expect(trials.map(({ generation, signal }) => [generation, signal.aborted])).toEqual([['a', true]]);
    trials[0]?.pass();
    await settled();
    trials[1]?.pass();
    await settled();
    expect(adopted).toEqual([later]);
    expect(events).toHaveLength(1);
  });

  test('are no longer tried at the end, which waits for what is left of the trial', async () => {
    const { rollout, trials, adopted } = bench();
    rollout.begin(new FakeDriver().ofGeneration('next'));
    await settled();
    let ended = false;
    const end = rollout.end().then(() => (ended = true));
    await settled();
    expect([trials[0]?.signal.aborted, ended]).toEqual([true, false]);
    trials[0]?.pass();
    await end;
    expect([adopted, rollout.snapshot]).toEqual([[], null]);
  });
});
