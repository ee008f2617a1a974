import { chmod, chown, mkdir, mkdtemp, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, test } from '@jest/globals';

import { makePrivateDir } from '../../../src/lib/private-dir.js';

const NOBODY = 65534;
const asRoot = process.getuid?.() === 0 ? test : test.skip;

describe('a private directory', () => {
  test('is made with its parents, or closed to other users', async () => {
    const parent = await mkdtemp(join(tmpdir(), 'drover-private-'));
    await makePrivateDir(join(parent, 'a/b'));
    expect((await stat(join(parent, 'a/b'))).mode & 0o777).toBe(0o700);
    await chmod(join(parent, 'a'), 0o755);
    await makePrivateDir(join(parent, 'a'));
    expect((await stat(join(parent, 'a'))).mode & 0o777).toBe(0o700);
  });

  asRoot("is refused where another user's is in its place", async () => {
    const path = join(await mkdtemp(join(tmpdir(), 'drover-private-')), 'doors');
    await mkdir(path, { mode: 0o755 });
    await chown(path, NOBODY, NOBODY);
    await expect(makePrivateDir(path)).rejects.toMatchObject({
      code: 'DIRECTORY_NOT_PRIVATE',
      message: `The directory ${path} belongs to another user (uid ${NOBODY})`,
    });
    expect((await stat(path)).mode & 0o777).toBe(0o755);
  });
});
