import { execFileSync } from 'node:child_process';
import { link, mkdir, mkdtemp, open, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { test } from '@jest/globals';

import { GuestEtc } from '../../../src/drivers/namespace/etc.js';
import { waitUntil } from '../../support/wait.js';

test('/etc of guests gets a change of a file that comes while others are read', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'drover-etc-'));
  const at = (name: string): string => join(dir, name);
  try {
    for (const name of ['host', 'outside', 'one', 'two']) await mkdir(at(name));
    await writeFile(at('host/hosts'), 'first');
    // Written by this name, the file changes, and its directory does not: as where a container's host has mounted it.
    await link(at('host/hosts'), at('outside/hosts'));
    await writeFile(at('one/last'), '');
    execFileSync('mkfifo', [at('pipe')]);
    await link(at('pipe'), at('two/last'));
    await symlink('one', at('link'));
    const etc = await GuestEtc.make(at('etc'), {}, { hosts: at('host/hosts'), last: at('link/last') });
    await etc.addGuest();
    const seen = async (text: string): Promise<void> => {
      await waitUntil(text, async () => (await readFile(at('etc/hosts'), 'utf8')) === text);
    };
    // From now on a read of the last file waits for a writer.
    await symlink('two', at('other'));
    await rename(at('other'), at('link'));
    await writeFile(at('outside/hosts'), 'second');
    await seen('second');
    await writeFile(at('outside/hosts'), 'third');
    await rm(at('two/last'));
    await (await open(at('pipe'), 'r+')).close();
    await seen('third');
    etc.removeGuest();
    await etc.refresh();
  } finally {
    await rm(dir, { recursive: true });
  }
});
