import { describe, expect, test } from '@jest/globals';

import { fit, table, wrap, type Column } from '../../../src/cli/table.js';

const COLUMNS: readonly Column[] = [
  { title: 'BUILD', spare: 0 },
  { title: 'NAME', spare: 0, min: 8 },
  { title: 'GUEST', spare: 1 },
  { title: 'TIME', spare: 2, right: true },
];
const ROWS = [
  ['b1', 'a-name-of-thirty-characters-12', 'g1', '12s'],
  ['b1842', 'hello', 'g12', '3m 12s'],
];

describe('a table', () => {
  test.each([200, 80, 40, 30, 24, 20, 10])('fits %i columns', (width) => {
    for (const line of table(COLUMNS, ROWS, width))
      expect(Array.from(line).length).toBeLessThanOrEqual(width);
  });

  test('cuts long names before it leaves out columns', () => {
    expect(table(COLUMNS, ROWS, 32)).toEqual([
      'BUILD  NAME        GUEST    TIME',
      'b1     a-name-of…  g1        12s',
      'b1842  hello       g12    3m 12s',
    ]);
    expect(table(COLUMNS, ROWS, 22)).toEqual([
      'BUILD  NAME      GUEST',
      'b1     a-name-…  g1',
      'b1842  hello     g12',
    ]);
  });
});

test('text is cut by whole characters', () => {
  expect(fit('\u{1f600}\u{1f600}\u{1f600}', 2)).toBe('\u{1f600}…');
  expect(fit('abc', 3)).toBe('abc');
});

test('text is wrapped between words, and within those that are too long', () => {
  expect(wrap('one two three', 7)).toEqual(['one two', 'three']);
  expect(wrap('/nix/store/abc', 6)).toEqual(['/nix/s', 'tore/a', 'bc']);
  expect(wrap('a\nb', 10)).toEqual(['a', 'b']);
});
