import { expect, test } from '@jest/globals';

import { screenOf } from '../../../src/cli/screen.js';

test('a terminal that does not know its size has 80 columns and 24 rows', () => {
  expect(screenOf({ isTTY: true, columns: 0, rows: 0 }, {})).toMatchObject({ columns: 80, rows: 24 });
  expect(screenOf({ isTTY: true }, {})).toMatchObject({ columns: 80, rows: 24 });
  expect(screenOf({ isTTY: true, columns: 132, rows: 50 }, {})).toMatchObject({ columns: 132, rows: 50 });
  expect(screenOf({ isTTY: true, columns: 3, rows: 1 }, {})).toMatchObject({ columns: 20, rows: 2 });
});
