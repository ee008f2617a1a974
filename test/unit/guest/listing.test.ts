import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { listPath } from '../../../src/guest/listing.js';
import { StoredListings } from '../../../src/guest/stored-listings.js';
import type { ValidPathInfo } from '../../../src/protocol/path-info.js';

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'listing-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

describe('the listing of a store path', () => {
  test('has every directory in the order in which it was listed, sorted by bytes', async () => {
    const path = join(dir, 'p');
    await mkdir(join(path, 'b/deep'), { recursive: true });
    await mkdir(join(path, 'a'));
    await writeFile(join(path, 'b/file'), '12345');
    await writeFile(join(path, 'Zed'), '');
    await chmod(join(path, 'Zed'), 0o555);
    await symlink('../b file', join(path, 'a/link'));
    expect(await listPath(path, false)).toBe(
      [
        ...['d 0 .', 'x 0 Zed', 'd 0 a', 'd 0 b', ''],
        ...['l ../b%20file link', ''],
        ...['d 0 deep', 'f 5 file', ''],
        ...['', ''],
      ].join('\n'),
    );
  });

  test('of a file or a link is one line', async () => {
    await writeFile(join(dir, 'file'), 'x');
    await symlink('file', join(dir, 'link'));
    expect(await listPath(join(dir, 'file'), true)).toBe('f 1 .\n');
    expect(await listPath(join(dir, 'link'), true)).toBe('l file .\n');
  });

  test('has names that are not UTF-8, and none that could end a word', async () => {
    await writeFile(Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0x0a, 0x20, 0x25])]), '');
    expect(await listPath(dir, false)).toBe('d 0 .\nf 0 %FF%0A%20%25\n\n');
  });

  test('undoes the case hack where the host does, and says what the file is called on disk', async () => {
    for (const name of ['FOO', 'Foo~nix~case~hack~1', 'foo~nix~case~hack~2'])
      await writeFile(join(dir, name), '');
    expect(await listPath(dir, true)).toBe(
      'd 0 .\nf 0 FOO\nf 0 Foo Foo~nix~case~hack~1\nf 0 foo foo~nix~case~hack~2\n\n',
    );
    expect(await listPath(dir, false)).toMatch(/^f 0 Foo~nix~case~hack~1$/m);
  });

  test('rejects two files that would have one name', async () => {
    for (const name of ['foo', 'foo~nix~case~hack~1']) await writeFile(join(dir, name), '');
    await expect(listPath(dir, true)).rejects.toMatchObject({ code: 'PROVISION_FAILED' });
  });
});

describe('listings on disk', () => {
  const info = (name: string, narHash: string): ValidPathInfo =>
    ({ path: join(dir, name), narHash }) as ValidPathInfo;

  test('are made once, and kept under the hash of the contents', async () => {
    const listings = new StoredListings(join(dir, 'listings'), false);
    await listings.prune();
    await writeFile(join(dir, 'a'), '123');
    expect(await listings.of([info('a', 'h1')])).toBe('path a\nf 3 .\n');
    await writeFile(join(dir, 'a'), '12345');
    expect(await listings.of([info('a', 'h1'), info('a', 'h2')])).toBe('path a\nf 3 .\npath a\nf 5 .\n');
    expect((await readdir(join(dir, 'listings'))).sort()).toEqual(['h1-literal', 'h2-literal']);
  });

  test('of a path that is not there are not kept, and a directory that cannot be written to costs nothing else', async () => {
    const listings = new StoredListings(join(dir, 'nowhere'), true);
    expect(await listings.of([info('gone', 'h')])).toBe('path gone\nf 0 .\n');
    await writeFile(join(dir, 'gone'), '1');
    expect(await listings.of([info('gone', 'h')])).toBe('path gone\nf 1 .\n');
  });
});
