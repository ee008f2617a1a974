import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from '@jest/globals';

import { directoryToShare, requireSize } from '../../../src/control/vms.js';

const MEBIBYTE = 1024 ** 2;

describe('a machine of drover vm', () => {
  test.each([
    [{ memoryBytes: null, cores: null }],
    [{ memoryBytes: 256 * MEBIBYTE, cores: 0 }],
    [{ memoryBytes: Math.floor(totalmem() / MEBIBYTE) * MEBIBYTE, cores: availableParallelism() }],
  ])('can have %j', (size) => {
    requireSize(size);
  });

  test.each([
    [{ memoryBytes: 2 ** 50, cores: null }, /^--memory is 1.0 PiB, and this host has /],
    [
      { memoryBytes: 255 * MEBIBYTE, cores: null },
      /^--memory is 255 MiB; a machine has whole MiB, from 256 MiB/,
    ],
    [{ memoryBytes: 256 * MEBIBYTE + 1, cores: null }, /a machine has whole MiB/],
    [{ memoryBytes: null, cores: 9999 }, /^--cores is 9999, and this host has /],
  ])('cannot have %j', (size, message) => {
    expect(() => {
      requireSize(size);
    }).toThrow(message);
  });

  test('gets a directory of the host without links in its path', async () => {
    expect(await directoryToShare('/proc/self/..')).toBe('/proc');
  });

  test('does not get a directory with a comma by a link', async () => {
    const dir = await mkdtemp('/tmp/vms-');
    try {
      await mkdir(`${dir}/a,b`);
      await symlink('a,b', `${dir}/link`);
      await expect(directoryToShare(`${dir}/link`)).rejects.toMatchObject({ code: 'VM_REFUSED' });
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  test.each([
    ['/tmp/a,b', 'has a comma or a control character'],
    ['/tmp/a\nb', 'has a comma or a control character'],
    ['tmp', 'is not an absolute path'],
    ['/nonexistent', 'cannot be shared'],
    [fileURLToPath(import.meta.url), 'it is not a directory'],
  ])('does not get %j', async (path, message) => {
    await expect(directoryToShare(path)).rejects.toMatchObject({
      code: 'VM_REFUSED',
      message: expect.stringContaining(message) as unknown,
    });
  });
});
