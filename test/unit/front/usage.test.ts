import { expect, test } from '@jest/globals';

import { watchUsage } from '../../../src/front/usage.js';
import type { UsageSample } from '../../../src/guest/agent.js';
import { FakeClock } from '../../support/fake-clock.js';

const DRV = '/nix/store/00000000000000000000000000000000-hello.drv';
const SAMPLE: UsageSample = { source: 'proc', cpuSeconds: 1, memoryBytes: 2, readBytes: 3, writtenBytes: 4 };

test('looks at a build less and less often, never at a short one, and no more once it has ended', async () => {
  const clock = new FakeClock();
  const looks: number[] = [];
  const samples: UsageSample[] = [];
  const buildUsage = (name: string): Promise<UsageSample | undefined> => {
    expect(name).toBe('00000000000000000000000000000000-hello.drv');
    looks.push(clock.now() / 1000);
    return looks.length === 2 ? Promise.reject(new Error('busy')) : Promise.resolve(SAMPLE);
  };
  const stop = watchUsage({ buildUsage }, DRV, clock, (sample) => samples.push(sample));
  await clock.advance(999);
  expect(looks).toEqual([]);
  await clock.advance(299_001);
  expect(looks.slice(0, 6)).toEqual([1, 2, 3, 4, 5, 6.25]);
  expect(looks.length).toBeLessThan(40);
  expect(looks.at(-1)).toBeGreaterThanOrEqual(285);
  expect(samples).toHaveLength(looks.length - 1);
  stop();
  await clock.advance(60_000);
  expect(samples).toHaveLength(looks.length - 1);
  expect(clock.pendingTimers).toBe(0);
});
