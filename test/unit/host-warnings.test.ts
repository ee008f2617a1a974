import { describe, expect, test } from '@jest/globals';

import { configSchema } from '../../src/config/schema.js';
import { hostWarnings } from '../../src/host-warnings.js';

const GIB = 1024 ** 3;
const MOUNTS = [
  '21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw',
  '22 21 0:5 / /var rw,nosuid - ext4 /dev/sdb1 rw',
  '23 22 0:6 / /var/lib/plain rw,noexec,nosuid - tmpfs tmpfs rw',
].join('\n');

const configOf = (sections: object) => configSchema('/var/lib/drover').parse(sections);
const warnings = (sections: object, driver = 'namespace', memoryBytes = 8 * GIB): string[] =>
  hostWarnings(configOf(sections), driver, { memoryBytes, mounts: MOUNTS });

describe('a configuration that goes beyond the host', () => {
  test('is warned of where scratch in memory exceeds the memory', () => {
    const sections = { pool: { maxGuests: 4 }, guest: { scratchSize: '4GiB', scratch: 'memory' } };
    expect(warnings(sections)).toEqual([
      'pool.maxGuests × guest.scratchSize is 16.0 GiB of memory, and this host has 8.0 GiB: lower one of them',
    ]);
    expect(warnings(sections, 'namespace', 16 * GIB)).toEqual([]);
    expect(warnings({ pool: { maxGuests: 5 }, guest: { memory: '2GiB' } }, 'qemu')).toEqual([
      'pool.maxGuests × guest.memory is 10.0 GiB of memory, and this host has 8.0 GiB: lower one of them',
    ]);
  });

  test('is warned of where no program may be run from the state directory', () => {
    expect(warnings({ stateDir: '/var/lib/plain/drover' })).toEqual([
      'stateDir /var/lib/plain/drover is on /var/lib/plain, which is mounted noexec: guests run programs from there; choose another stateDir',
    ]);
    expect(warnings({})).toEqual([]);
  });
});
