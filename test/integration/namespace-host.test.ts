import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';

import { checkHost } from '../../src/drivers/namespace/driver.js';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'drover-host-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** A user other than root is told that first. */
const expected =
  process.getuid?.() === 0
    ? {
        code: 'REQUIREMENT_MISSING',
        message: 'This kernel has no overlayfs',
        hint: expect.stringContaining('modprobe overlay') as unknown,
      }
    : { code: 'NOT_ROOT' };

test('a kernel without overlayfs is told apart, with what to do about it', async () => {
  const filesystems = join(directory, 'filesystems');
  await writeFile(filesystems, 'nodev\tsysfs\nnodev\ttmpfs\n\text4\n');
  await expect(checkHost(filesystems)).rejects.toMatchObject(expected);
});
