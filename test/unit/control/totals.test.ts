import { expect, test } from '@jest/globals';

import { TotalsCounter } from '../../../src/control/totals.js';
import { BUILD_ENDS, type BuildEnd } from '../../../src/front/events.js';
import { isSuccess } from '../../../src/protocol/build-result.js';

/** Totals after one build that ended so. */
function afterBuild(result: BuildEnd, succeeded: boolean) {
  const counter = new TotalsCounter();
  const derivation = '/nix/store/00000000000000000000000000000000-hello.drv';
  const rest = {
    build: 'b1',
    guest: 'g1',
    system: 'x86_64-linux',
    cpuSeconds: null,
    waitedMs: 0,
    durationMs: 1,
  };
  counter.count({ type: 'build-finished', derivation, ...rest, result, succeeded });
  return counter.totals;
}

test('counts a build that found no substituter as failed', () => {
  expect(isSuccess('NoSubstituters')).toBe(false);
  expect(afterBuild('NoSubstituters', false)).toMatchObject({ builds: 1, failedBuilds: 1 });
});

test('leaves it to the event whether a build succeeded', () => {
  for (const end of BUILD_ENDS) {
    expect(afterBuild(end, true)).toMatchObject({ builds: 1, failedBuilds: 0 });
    expect(afterBuild(end, false)).toMatchObject({ builds: 1, failedBuilds: 1 });
  }
});
