import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { readPressure } from '../../../src/metrics/pressure.js';

test('reads the seconds that some process has waited, for the resources that are measured', async () => {
  const dir = await mkdtemp('/tmp/pressure-');
  try {
    const full = 'full avg10=0.00 avg60=0.00 avg300=0.00 total=7';
    await writeFile(
      join(dir, 'cpu'),
      `some avg10=81.70 avg60=90.73 avg300=92.46 total=14952505753\n${full}\n`,
    );
    await writeFile(join(dir, 'io'), 'not what it should be');
    expect(readPressure(dir)).toEqual([['cpu', 14_952.505753]]);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('finds nothing where there is none', () => {
  expect(readPressure('/nothing/here')).toEqual([]);
});
