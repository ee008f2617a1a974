import { readdir, readFile } from 'node:fs/promises';

import { expect, test } from '@jest/globals';

const ROOT = new URL('../../', import.meta.url);
/** eslint.config.js enforces this table. */
const layers = JSON.parse(await readFile(new URL('scripts/layers.json', ROOT), 'utf8')) as Record<
  string,
  string[]
>;

test('the table of imports names every folder of src', async () => {
  const entries = await readdir(new URL('src', ROOT), { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  expect(Object.keys(layers).sort()).toEqual(folders.sort());
});

test('CONTRIBUTING.md shows the same table', async () => {
  const page = await readFile(new URL('CONTRIBUTING.md', ROOT), 'utf8');
  const rows = [...page.matchAll(/^\| `src\/([a-z-]+)\/` +\|[^|]+\|([^|]*)\|$/gm)];
  const shown = rows.map(([, folder = '', allowed = '']) => [folder, allowed.match(/[a-z-]+/g) ?? []]);
  expect(Object.fromEntries(shown)).toEqual(layers);
});
