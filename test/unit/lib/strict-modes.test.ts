import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { beforeEach, describe, expect, test } from '@jest/globals';

import { strictModesFault } from '../../../src/lib/strict-modes.js';

const NOBODY = 65534;
const asRoot = process.getuid?.() === 0 ? test : test.skip;

describe('strict modes', () => {
  let dir: string;

  beforeEach(() => {
    // In /tmp, which is sticky.
    dir = mkdtempSync(join(tmpdir(), 'drover-modes-'));
  });

  function file(name: string, mode = 0o600): string {
    const path = join(dir, name);
    writeFileSync(path, '');
    chmodSync(path, mode);
    return path;
  }

  test('accept a file of this user below directories of root and this user', async () => {
    expect(await strictModesFault(file('a'))).toBeUndefined();
    expect(await strictModesFault(file('b', 0o644))).toBeUndefined();
  });

  test.each([0o620, 0o602, 0o666])('reject mode %o of the file', async (mode) => {
    const path = file('a', mode);
    expect(await strictModesFault(path)).toBe(`other users can write ${path} (mode 0${mode.toString(8)})`);
  });

  test('reject a directory above it that others can write, unless it is sticky', async () => {
    mkdirSync(join(dir, 'b'));
    const path = join(dir, 'b', 'a');
    writeFileSync(path, '');
    chmodSync(join(dir, 'b'), 0o777);
    expect(await strictModesFault(path)).toContain(join(dir, 'b'));
    chmodSync(join(dir, 'b'), 0o1777);
    expect(await strictModesFault(path)).toBeUndefined();
  });

  test('end where the path ends', async () => {
    expect(await strictModesFault(join(dir, 'a/b/c'))).toBeUndefined();
    expect(await strictModesFault(join(file('a'), 'b'))).toBeUndefined();
  });

  test('end at a loop of symbolic links', async () => {
    symlinkSync('loop', join(dir, 'loop'));
    expect(await strictModesFault(join(dir, 'loop'))).toBeUndefined();
  });

  test.each(['open/a', '../open/a', './open/../open/a'])(
    'reject what a link leads through: %s',
    async (target) => {
      mkdirSync(join(dir, 'open'));
      writeFileSync(join(dir, 'open/a'), '');
      chmodSync(join(dir, 'open'), 0o777);
      mkdirSync(join(dir, 'sub'));
      const link = join(dir, target.startsWith('..') ? 'sub/link' : 'link');
      symlinkSync(target, link);
      expect(await strictModesFault(link)).toContain(`${join(dir, 'open')} (mode`);
      symlinkSync(join(dir, 'open/a'), join(dir, 'absolute'));
      expect(await strictModesFault(join(dir, 'absolute'))).toContain(join(dir, 'open'));
    },
  );

  asRoot('reject a file, a directory or a link of another user', async () => {
    const path = file('a');
    chownSync(path, NOBODY, NOBODY);
    expect(await strictModesFault(path)).toBe(`${path} belongs to another user (uid ${NOBODY})`);
    symlinkSync(file('b'), join(dir, 'link'));
    lchownSync(join(dir, 'link'), NOBODY, NOBODY);
    expect(await strictModesFault(join(dir, 'link'))).toContain('link belongs to another user');
    chownSync(dir, NOBODY, NOBODY);
    expect(await strictModesFault(join(dir, 'new/state'))).toBe(
      `${dir} belongs to another user (uid ${NOBODY})`,
    );
  });
});
