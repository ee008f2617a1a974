import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { openLog } from '../../../src/lib/log.js';

test('a field with control characters stays one line of JSON that a terminal can show', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'drover-log-')), 'log');
  const derivation = 'a\u001b[2J\u009b2J\u007f\u202e\nb';
  (await openLog({ level: 'info', file })).log.info({ derivation }, 'build started');
  const text = readFileSync(file, 'utf8');
  expect(text).toMatch(/^[\x20-\x7e]+\n$/);
  expect(JSON.parse(text)).toMatchObject({ derivation, msg: 'build started' });
});
