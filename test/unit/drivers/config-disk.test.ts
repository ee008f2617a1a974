import { describe, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { configDisk } from '../../../src/drivers/qemu/config-disk.js';

describe("the disk with a guest's identity", () => {
  test('is an archive that tar reads, of whole sectors', async () => {
    const disk = configDisk([
      { name: 'guest.env', content: 'name=g1\n', mode: 0o644 },
      { name: 'host_key', content: 'x'.repeat(512), mode: 0o600 },
      { name: 'empty', content: '', mode: 0o644 },
    ]);
    expect(disk.length % 512).toBe(0);
    const { stdout } = await execa('tar', ['-tvf', '-'], { input: disk, env: { TZ: 'UTC' } });
    expect(stdout.split('\n').map((line) => line.replaceAll(/\s+/g, ' '))).toEqual([
      '-rw-r--r-- 0/0 8 1970-01-01 00:00 guest.env',
      '-rw------- 0/0 512 1970-01-01 00:00 host_key',
      '-rw-r--r-- 0/0 0 1970-01-01 00:00 empty',
    ]);
    const content = await execa('tar', ['-xOf', '-', 'host_key'], { input: disk });
    expect(content.stdout).toBe('x'.repeat(512));
  });
});
