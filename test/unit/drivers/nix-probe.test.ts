import { chmod, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test } from '@jest/globals';

import { nixWarnings } from '../../../src/drivers/namespace/nix-probe.js';

test('a Nix that other users could replace is warned of, and no other', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'drover-nix-'));
  const program = join(directory, 'nix-daemon');
  await writeFile(program, '', { mode: 0o755 });
  expect(await nixWarnings(directory)).toEqual([]);
  await chmod(program, 0o775);
  expect(await nixWarnings(directory)).toEqual([
    `root runs the programs in guest.nix (${directory}), and could be made to run others: other users can write ${program} (mode 0775)`,
  ]);
  await chmod(program, 0o755);
  await chmod(directory, 0o777);
  expect(await nixWarnings(directory)).toEqual([
    expect.stringContaining(`other users can write ${directory} (mode`),
  ]);
});
