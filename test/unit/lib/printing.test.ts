import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

/** Where output leaves the process, each behind src/lib/printable.ts. */
const OUTLETS = ['src/lib/log.ts', 'src/main.ts'];
const PRINTS =
  /\bconsole\.\w+\(|(?<![.\w])(?:process\.)?std(?:out|err)\.write\(|pino\.destination\(|writeSync\([12],/;

test('only the outlets print, and everything that they print was made printable', () => {
  const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).map((name) => join('src', name));
  const printing = files
    .filter((file) => file.endsWith('.ts'))
    .filter((file) => PRINTS.test(readFileSync(file, 'utf8')));
  expect(printing.sort()).toEqual(OUTLETS);
  for (const file of OUTLETS) expect(readFileSync(file, 'utf8')).toContain('printable');
});
