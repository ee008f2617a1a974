import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { availableMemory, Cgroups, fittingSizes } from '../../src/drivers/namespace/cgroups.js';

const GIB = 1024 ** 3;
const LIMITS = { memoryBytes: 2 * GIB, swapBytes: GIB, pids: 1000 };
let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'drover-cgroups-'));
  await mkdir(join(dir, 'proc'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

/** Writes files below `dir`, with the directories they need. */
async function lay(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(dir, name, '..'), { recursive: true });
    await writeFile(join(dir, name), text);
  }
}
const proc = (): string => join(dir, 'proc');
const read = async (name: string): Promise<string> => await readFile(join(dir, name), 'utf8');
const mount = (where: string, type: string, options: string): string =>
  `30 20 0:30 / ${join(dir, where)} rw,relatime shared:1 - ${type} ${type} ${options}\n`;

describe('cgroup v2', () => {
  const service = async (): Promise<void> => {
    await lay({
      'proc/cgroup': '0::/system.slice/drover.service\n',
      'proc/mountinfo': mount('fs', 'cgroup2', 'rw,nsdelegate'),
      'fs/system.slice/drover.service/cgroup.controllers': 'cpu io memory pids\n',
      'fs/system.slice/drover.service/cgroup.type': 'domain\n',
      'fs/system.slice/drover.service/cgroup.procs': `${process.pid}\n`,
      'fs/system.slice/drover.service/memory.max': `${4 * GIB}\n`,
      'fs/system.slice/memory.max': 'max\n',
    });
  };

  test('moves the supervisor into a leaf, and makes guests beside it with their limits', async () => {
    await service();
    const cgroups = await Cgroups.find(proc(), process.pid);
    if (typeof cgroups === 'string') throw new Error(cgroups);
    const own = 'fs/system.slice/drover.service';
    expect(await read(`${own}/drover-supervisor/cgroup.procs`)).toBe(String(process.pid));
    expect(await read(`${own}/cgroup.subtree_control`)).toBe('+memory +pids +io');
    const guest = await cgroups.make('g1', LIMITS);
    const path = `${own}/drover-${process.pid}-g1`;
    expect(guest.directories).toEqual([join(dir, path)]);
    expect(await read(`${path}/memory.max`)).toBe(String(2 * GIB));
    expect(await read(`${path}/memory.swap.max`)).toBe(String(GIB));
    expect(await read(`${path}/pids.max`)).toBe('1000');
    expect(await read(`${path}/io.weight`)).toBe('50');
  });

  test('tells how many processes were killed, and the peak', async () => {
    await service();
    const cgroups = await Cgroups.find(proc(), process.pid);
    if (typeof cgroups === 'string') throw new Error(cgroups);
    const guest = await cgroups.make('g1', LIMITS);
    expect(guest.memory()).toBeUndefined();
    const path = `fs/system.slice/drover.service/drover-${process.pid}-g1`;
    await lay({
      [`${path}/memory.events`]: 'low 0\noom 3\noom_kill 2\n',
      [`${path}/memory.peak`]: '77\n',
      [`${path}/memory.current`]: '55\n',
    });
    expect(guest.memory()).toEqual({ kills: 2, usedBytes: 55, peakBytes: 77, limitBytes: 2 * GIB });
  });

  test('takes the smallest limit above it for the memory that there is', async () => {
    await service();
    expect(await availableMemory(proc())).toBe(4 * GIB);
  });
});

describe('cgroup v1', () => {
  const host = async (): Promise<void> => {
    await lay({
      'proc/cgroup': '5:memory:/a\n4:pids:/\n3:cpu,cpuacct:/a\n0::/\n',
      'proc/mountinfo':
        mount('memory', 'cgroup', 'rw,memory') +
        mount('pids', 'cgroup', 'rw,pids') +
        mount('cpu', 'cgroup', 'rw,cpu,cpuacct'),
      'memory/a/memory.limit_in_bytes': `${3 * GIB}\n`,
      'pids/cgroup.procs': '',
    });
  };

  test('makes guests below the cgroup of the supervisor in the hierarchies that have limits', async () => {
    await host();
    const cgroups = await Cgroups.find(proc(), 7);
    if (typeof cgroups === 'string') throw new Error(cgroups);
    const guest = await cgroups.make('g1', LIMITS);
    expect(guest.directories).toEqual([join(dir, 'memory/a/drover-7-g1'), join(dir, 'pids/drover-7-g1')]);
    expect(await read('memory/a/drover-7-g1/memory.limit_in_bytes')).toBe(String(2 * GIB));
    expect(await read('memory/a/drover-7-g1/memory.memsw.limit_in_bytes')).toBe(String(3 * GIB));
    expect(await read('pids/drover-7-g1/pids.max')).toBe('1000');
  });

  test('uses one mount of each hierarchy, in its usual place if there is one', async () => {
    await host();
    const usual = await read('proc/mountinfo');
    await lay({
      'proc/mountinfo': usual + mount('other', 'cgroup', 'rw,memory'),
      'other/a/memory.limit_in_bytes': `${GIB}\n`,
    });
    expect(await availableMemory(proc())).toBe(3 * GIB);
    const cgroups = await Cgroups.find(proc(), 7);
    if (typeof cgroups === 'string') throw new Error(cgroups);
    const { directories } = await cgroups.make('g1', LIMITS);
    expect(directories).toEqual([join(dir, 'memory/a/drover-7-g1'), join(dir, 'pids/drover-7-g1')]);
    const inSys = '30 20 0:30 / /sys/fs/cgroup/none rw shared:1 - cgroup cgroup rw,memory\n';
    await lay({ 'proc/mountinfo': usual + inSys });
    expect(await availableMemory(proc())).toBe(totalmem());
  });

  test('removes those of supervisors that are gone, and no others', async () => {
    await host();
    const gone = 2 ** 22 + 1;
    await mkdir(join(dir, `pids/drover-${gone}-g1`));
    await mkdir(join(dir, `pids/drover-${process.pid}-g1`));
    await mkdir(join(dir, 'pids/user-1000-g1'));
    const cgroups = await Cgroups.find(proc(), process.pid);
    if (typeof cgroups === 'string') throw new Error(cgroups);
    await cgroups.reap();
    const left = await readdir(join(dir, 'pids'));
    expect(left).not.toContain(`drover-${gone}-g1`);
    expect(left).toEqual(expect.arrayContaining([`drover-${process.pid}-g1`, 'user-1000-g1']));
  });
});

test('a host without such cgroups is told apart', async () => {
  await lay({
    'proc/cgroup': '0::/\n',
    'proc/mountinfo': mount('fs', 'cgroup2', 'rw'),
    'fs/cgroup.controllers': '',
  });
  expect(await Cgroups.find(proc(), 7)).toBe('this host has no cgroups that limit memory');
  expect(await Cgroups.find(join(dir, 'nowhere'), 7)).toMatch(/ENOENT/);
});

describe('sizes that the configuration leaves open', () => {
  const open = { memoryBytes: undefined, scratchSizeBytes: undefined, scratch: 'auto' as const };

  test('divide what there is by the number of guests', () => {
    expect(fittingSizes(100 * GIB, 2, open, true)).toEqual({
      ...{ memoryBytes: 45 * GIB, scratchSizeBytes: 20 * GIB, onDisk: false },
    });
    expect(fittingSizes(8 * GIB, 2, open, true)).toMatchObject({ scratchSizeBytes: Math.floor(1.8 * GIB) });
  });

  test('leave room in a guest for what its builds write', () => {
    expect(fittingSizes(100 * GIB, 1, { ...open, memoryBytes: 4 * GIB }, true).scratchSizeBytes).toBe(
      2 * GIB,
    );
  });

  test.each([
    ['in memory, where it fits there', 100, { scratchSizeBytes: 20 * GIB }, true, false],
    ['on disk, where what is wanted does not fit', 100, { scratchSizeBytes: 60 * GIB }, true, true],
    ['on disk, where memory is short', 2, {}, true, true],
    ['in memory all the same, where there are no disks', 2, {}, false, false],
    ['in memory, where that is wanted', 2, { scratch: 'memory' as const }, true, false],
    ['on disk, where that is wanted', 100, { scratch: 'disk' as const }, true, true],
  ])('put the scratch %s', (_, hostGib, wanted, mayUseDisk, onDisk) => {
    expect(fittingSizes(hostGib * GIB, 1, { ...open, ...wanted }, mayUseDisk).onDisk).toBe(onDisk);
  });

  test('never exceed the host, whatever is asked for', () => {
    expect(fittingSizes(4 * GIB, 1, { ...open, memoryBytes: 64 * GIB }, true).memoryBytes).toBeLessThan(
      4 * GIB,
    );
  });
});
