import { expect, test } from '@jest/globals';

import { historyRows, historyVerdicts } from '../../../bench/history.js';
import { quantileOf, slopeOf, soakRows, soakVerdicts, type Sample } from '../../../bench/soak/series.js';

const MB = 1e6;

/** An hour of samples, one a minute. */
function hour(residentAt: (minute: number) => number, changes: Partial<Sample> = {}): Sample[] {
  return Array.from({ length: 60 }, (_, index) => ({
    ...{ minutes: index + 1, residentBytes: residentAt(index + 1) * MB, descriptors: 40 },
    ...{ stateBytes: 5 * MB, historyBytes: 4 * MB, processor: 0.1, builds: index * 60, answersMs: [1, 2, 3] },
    ...changes,
  }));
}

function missed(samples: readonly Sample[]): string[] {
  return soakVerdicts(samples, 4 * 1024 ** 2)
    .filter(({ met }) => !met)
    .map(({ bar }) => bar);
}

test('a supervisor that grows only while it warms up passes', () => {
  expect(missed(hour((minute) => Math.min(80, 60 + minute * 2)))).toEqual([]);
});

test('one that goes on growing does not, nor one whose history or answers exceed their bounds', () => {
  expect(missed(hour((minute) => 60 + minute))).toEqual([
    'resident memory: last quarter at most 1.1 × the second',
    'resident memory: grows by at most 10 % after the warm-up',
  ]);
  expect(missed(hour(() => 80, { historyBytes: 6 * MB, answersMs: [1, 400] }))).toEqual([
    'history stays within history.maxBytes and a segment',
    '99 % of all answers within 50 ms',
  ]);
});

test('a slope is that of the line by least squares', () => {
  expect(slopeOf([[0, 1], [1, 3], [2, 5]])).toBeCloseTo(2); // prettier-ignore
  expect(slopeOf([[3, 7]])).toBe(0);
  expect(quantileOf([4, 1, 3, 2], 0.5)).toBe(2);
  expect(quantileOf([], 0.5)).toBe(0);
});

test('the table has a row for each twelfth of the time', () => {
  const rows = soakRows(hour(() => 80));
  expect(rows).toHaveLength(13);
  expect(rows[1]?.slice(0, 3)).toEqual(['5.0', '240', '80.0 MB']);
});

test('what the history adds to a graph is that within rounds', () => {
  const rounds = (...pairs: [number, number][]) =>
    pairs.map(([totalMs, buildCpuMs]) => ({ totalMs, buildCpuMs }));
  const inTurns = {
    off: rounds([1000, 5], [2000, 8], [1000, 5]),
    'without logs': rounds([1000, 5], [2000, 8], [1000, 5]),
    'with logs': rounds([1010, 5.5], [2100, 8.5], [1020, 5.5]),
  };
  const samples = { rounds: inTurns, costMs: 0.5 };
  expect(historyVerdicts(samples).map(({ measured, met }) => [measured, met])).toEqual([
    ['1.020 ×', true],
    ['0.50 ms', true],
  ]);
  expect(historyRows(samples)[3]).toEqual(['with logs', '1020 ms', '5.50 ms']);
});
