import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, test } from '@jest/globals';

import { watchConfig } from '../../src/config/watch.js';
import { within } from '../support/wait.js';

let directory: string;
let stop: (() => Promise<void>) | undefined;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'drover-watch-'));
});

afterEach(async () => {
  await stop?.();
  stop = undefined;
  await rm(directory, { recursive: true, force: true });
});

/** Begins to watch, then changes something, and waits until that is noticed. */
async function expectNoticed(file: string, change: () => Promise<void>): Promise<void> {
  let noticed!: () => void;
  const notice = new Promise<void>((resolve) => (noticed = resolve));
  stop = await watchConfig(file, noticed);
  await change();
  await within('the change to be noticed', notice);
}

test('a file that is written', async () => {
  const file = join(directory, 'drover.yaml');
  await writeFile(file, 'log: { level: info }');
  await expectNoticed(file, () => writeFile(file, 'log: { level: debug }'));
});

test('a file that is replaced, as editors do', async () => {
  const file = join(directory, 'drover.yaml');
  await writeFile(file, 'log: { level: info }');
  await expectNoticed(file, async () => {
    await writeFile(`${file}.new`, 'log: { level: debug }');
    await rename(`${file}.new`, file);
  });
});

test('a link that is made to point elsewhere, as Nix does', async () => {
  const file = join(directory, 'drover.yaml');
  for (const name of ['one', 'two']) await writeFile(join(directory, name), `# ${name}`);
  await symlink(join(directory, 'one'), file);
  await expectNoticed(file, async () => {
    await symlink(join(directory, 'two'), `${file}.new`);
    await rename(`${file}.new`, file);
  });
});

test('a link further on that is made to point elsewhere', async () => {
  const file = join(directory, 'drover.yaml');
  const elsewhere = join(directory, 'static');
  await mkdir(elsewhere);
  for (const name of ['one', 'two']) await writeFile(join(directory, name), `# ${name}`);
  await symlink(join(directory, 'one'), join(elsewhere, 'current'));
  await symlink(join(elsewhere, 'current'), file);
  await expectNoticed(file, async () => {
    await symlink(join(directory, 'two'), join(elsewhere, 'new'));
    await rename(join(elsewhere, 'new'), join(elsewhere, 'current'));
  });
});
