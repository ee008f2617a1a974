import { readFile } from 'node:fs/promises';

import { expect, test } from '@jest/globals';

import { codeFacts, ERROR_CODES } from '../../../src/lib/error-codes.js';

test('docs/errors.md lists every code once, with its exit status', async () => {
  const page = await readFile(new URL('../../../docs/errors.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `([A-Z_]+)` +\| (\d+) +\|/gm)].map(([, code, exit]) => [code, exit]);
  const table = Object.entries(ERROR_CODES).map(([code, { exit }]) => [code, String(exit)]);
  expect(rows.sort()).toEqual(table.sort());
});

test("knows Drover's own codes only", () => {
  expect(codeFacts('GUEST_GONE')?.losesGuest).toBe(true);
  for (const code of ['ENOENT', 'toString', undefined]) expect(codeFacts(code)).toBeUndefined();
});
