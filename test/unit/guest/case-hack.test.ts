import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

import { CaseHackDetector } from '../../../src/guest/case-hack.js';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'case-hack-'));
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

describe('the case-hack detector', () => {
  test('looks at every level, and follows no link', async () => {
    await mkdir(join(dir, 'deep/a/b'), { recursive: true });
    await writeFile(join(dir, 'deep/a/b/Makefile~nix~case~hack~1'), '');
    await mkdir(join(dir, 'plain'));
    await symlink(join(dir, 'deep'), join(dir, 'plain/link'));
    await writeFile(join(dir, 'file'), '');
    const detector = new CaseHackDetector();
    expect(await detector.inspect(join(dir, 'deep'))).toEqual({ hacked: true, files: 4 });
    expect(await detector.inspect(join(dir, 'plain'))).toEqual({ hacked: false, files: 2 });
    expect(await detector.inspect(join(dir, 'file'))).toEqual({ hacked: false, files: 1 });
    expect(await detector.inspect(join(dir, 'nowhere'))).toMatchObject({ hacked: false });
  });

  test('remembers its answers', async () => {
    const path = join(dir, 'remembered');
    await mkdir(path);
    const detector = new CaseHackDetector();
    expect(await detector.inspect(path)).toMatchObject({ hacked: false });
    await writeFile(join(path, 'x~nix~case~hack~1'), '');
    expect(await detector.inspect(path)).toMatchObject({ hacked: false });
  });

  test('does not remember what it could not read', async () => {
    const path = join(dir, 'loop');
    await symlink(path, path);
    const detector = new CaseHackDetector();
    await expect(detector.inspect(path)).rejects.toMatchObject({
      code: 'PROVISION_FAILED',
      message: `${path} cannot be read on the host`,
    });
    await rm(path);
    await mkdir(path);
    expect(await detector.inspect(path)).toMatchObject({ hacked: false });
  });
});
