import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { expect, test } from '@jest/globals';

import { ConsoleLogs } from '../../../src/drivers/console-directory.js';
import { StateDir } from '../../../src/lib/state-dir.js';

test('the 20 newest console logs are kept at each boot, and those of guests that exist', async () => {
  const stateDir = new StateDir(await mkdtemp(join(tmpdir(), 'drover-logs-')));
  try {
    await mkdir(stateDir.logs, { mode: 0o700 });
    await mkdir(join(stateDir.guests, 'g1'), { recursive: true });
    const logs = new ConsoleLogs(stateDir);
    const old = join(stateDir.logs, '20200101T000000Z-g1.log');
    for (const file of [old, ...Array.from({ length: 25 }, (_, index) => logs.path(`g${index + 1}`))])
      await writeFile(file, '');
    await logs.prepare('g26');
    const kept = await readdir(stateDir.logs);
    const expected = [1, ...Array.from({ length: 20 }, (_, index) => index + 6)];
    expect(kept.sort()).toEqual(expected.map((number) => basename(logs.path(`g${number}`))).sort());
  } finally {
    await rm(stateDir.path, { recursive: true });
  }
});
