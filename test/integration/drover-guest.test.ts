import { chmod, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { formatRegistration } from '../../src/guest/registration.js';
import type { StorePath } from '../../src/protocol/store-path.js';
import { REPOSITORY } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';
import { pathInfo } from '../support/scripted-daemon.js';
import { waitUntil } from '../support/wait.js';

const SCRIPT = join(REPOSITORY, 'guest-config/drover-guest.sh');

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp('/tmp/drover-guest-');
  await mkdir(join(dir, 'bin'));
  await mkdir(join(dir, 'store'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

/** Puts a program before the real one: it notes how it was called, and what it read. */
async function double(name: string, body = ''): Promise<void> {
  const file = join(dir, 'bin', name);
  await writeFile(file, `#!/bin/sh\necho "$0 $*" >> ${dir}/calls\n${body}\n`);
  await chmod(file, 0o755);
}

async function calls(): Promise<string> {
  return await readFile(join(dir, 'calls'), 'utf8').catch(() => '');
}

async function guest(
  args: readonly string[],
  input = '',
): Promise<{ exitCode?: number; stdout: string; stderr: string }> {
  return await execa('sh', [SCRIPT, ...args], { ...options(), input });
}

function options() {
  return {
    reject: false,
    extendEnv: false,
    env: {
      PATH: `${dir}/bin:${process.env['PATH'] ?? ''}`,
      NIX_STORE_DIR: join(dir, 'store'),
      NIX_STATE_DIR: join(dir, 'var'),
      NIX_CONF_DIR: dir,
      NIX_LOG_DIR: join(dir, 'log'),
      NIX_REMOTE: 'local',
      NIX_CONFIG: 'build-users-group =',
      DROVER_MANIFEST: join(dir, 'manifest.json'),
      DROVER_BROKEN_SYSTEMS: join(dir, 'broken-systems'),
      DROVER_TRANSLATOR: join(dir, 'translator'),
      DROVER_BOOTING: join(dir, 'booting'),
      DROVER_PROC: join(dir, 'proc'),
      DROVER_CGROUPS: join(dir, 'cgroups'),
    },
  } as const;
}

/** A path of that store, there or not, and its registration. */
const path = (name: string): StorePath => join(dir, 'store', `${'0'.repeat(32)}-${name}`) as StorePath;

describe('drover-guest', () => {
  test.each([
    [[]],
    [['unknown']],
    [['hello', 'more']],
    [['register', 'more']],
    [['stats', 'more']],
    [['stats', '5', '6']],
    [['set-clock']],
    [['set-clock', '']],
    [['set-clock', '-5']],
    [['set-clock', '1e9']],
    [['set-clock', '5', '6']],
    [['poweroff']],
  ])('%j is wrong usage', async (args) => {
    await double('date');
    const { exitCode, stderr, stdout } = await guest(args);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toContain('usage: drover-guest');
    expect(await calls()).not.toContain(' -s ');
  });

  test('hello prints the manifest', async () => {
    await writeFile(join(dir, 'manifest.json'), '{"generation":"x"}\n');
    expect((await guest(['hello'])).stdout).toBe('{"generation":"x"}');
  });

  test.each([
    ['{"generation":"x","systems":["a","b"]}\n', 'b-linux\n', ['b-linux']],
    ['{\n  "generation": "x",\n  "systems": ["a", "b"]\n}\n\n', 'a\nb', ['a', 'b']],
  ])('hello tells what does not work: %j', async (manifest, broken, brokenSystems) => {
    await writeFile(join(dir, 'manifest.json'), manifest);
    await writeFile(join(dir, 'broken-systems'), broken);
    const { stdout } = await guest(['hello']);
    expect(JSON.parse(stdout)).toEqual({ generation: 'x', systems: ['a', 'b'], brokenSystems });
  });

  test('hello tells what runs programs of another system', async () => {
    await writeFile(join(dir, 'manifest.json'), '{"generation":"x"}\n');
    await writeFile(join(dir, 'translator'), 'qemu-user\n');
    expect(JSON.parse((await guest(['hello'])).stdout)).toEqual({ generation: 'x', translator: 'qemu-user' });
  });

  test('hello waits while the guest boots', async () => {
    const booting = join(dir, 'booting');
    await execa('mkfifo', [booting]);
    const held = await open(booting, 'r+');
    await double('cat', `[ "$1" != ${booting} ] || echo waits >> ${dir}/calls\nexec /bin/cat "$@"`);
    await writeFile(join(dir, 'manifest.json'), '{"generation":"early"}\n');
    const answer = guest(['hello']);
    await waitUntil('the wait', async () => (await calls()).includes('waits'));
    await writeFile(join(dir, 'manifest.json'), '{"generation":"up"}\n');
    await rm(booting);
    await held.close();
    expect(await answer).toMatchObject({ exitCode: 0, stdout: '{"generation":"up"}' });
  });

  test('hello without a manifest fails, whatever does not work', async () => {
    await writeFile(join(dir, 'broken-systems'), 'a\n');
    const { exitCode, stdout, stderr } = await guest(['hello']);
    expect([exitCode, stdout]).toEqual([1, '']);
    expect(stderr).toContain('manifest.json');
  });

  describe('build-usage', () => {
    const NAME = `${'0'.repeat(32)}-hello.drv`;

    /** A process in the test's own /proc. */
    async function fakeProcess(pid: number, files: Readonly<Record<string, string>>): Promise<void> {
      await mkdir(join(dir, 'proc', String(pid)), { recursive: true });
      for (const [name, text] of Object.entries(files))
        await writeFile(join(dir, 'proc', String(pid), name), text);
    }

    const mountinfo = `387 379 0:41 /${NAME}.chroot / rw - overlay overlay rw\n`;

    test('adds up the processes of a build, and only those', async () => {
      const stat = (pid: number, name: string): string =>
        `${pid} (${name}) R 1 1 1 0 -1 0 0 0 0 0 100 50 30 20 20 0 1 0 5 0 0\n`;
      await fakeProcess(10, {
        ...{ mountinfo, cgroup: '0::/g1\n', stat: stat(10, 'sh) R 1 ('), status: 'VmRSS:\t  100 kB\n' },
        io: 'rchar: 10\nwchar: 20\nread_bytes: 1\nwrite_bytes: 2\n',
      });
      await fakeProcess(11, {
        mountinfo,
        stat: stat(11, 'cc'),
        status: 'VmRSS:\t  50 kB\n',
        io: 'rchar: 5\nwchar: 5\n',
      });
      await fakeProcess(12, {
        mountinfo: '1 1 0:1 / / rw - x x rw\n',
        stat: stat(12, 'other'),
        status: '',
        io: '',
      });
      const { exitCode, stdout } = await guest(['build-usage', NAME]);
      expect({ exitCode, usage: JSON.parse(stdout) as unknown }).toEqual({
        exitCode: 0,
        usage: { source: 'proc', cpuSeconds: 4, memoryBytes: 150 * 1024, readBytes: 15, writtenBytes: 25 },
      });
    });

    test('reads the control group of a build where Nix has made one', async () => {
      const group = '/nix-daemon/nix-build-uid-872415232-3';
      await fakeProcess(10, { mountinfo, cgroup: `0::${group}\n` });
      await mkdir(join(dir, 'cgroups', group), { recursive: true });
      await writeFile(join(dir, 'cgroups', group, 'cpu.stat'), 'usage_usec 2500000\nuser_usec 2000000\n');
      await writeFile(join(dir, 'cgroups', group, 'memory.peak'), '4096\n');
      await writeFile(
        join(dir, 'cgroups', group, 'io.stat'),
        '8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n',
      );
      expect(JSON.parse((await guest(['build-usage', NAME])).stdout)).toEqual({
        ...{ source: 'cgroup', cpuSeconds: 2.5, memoryBytes: 4096, readBytes: 11, writtenBytes: 22 },
      });
    });

    test('prints nothing for a build that does not run', async () => {
      await mkdir(join(dir, 'proc'));
      expect(await guest(['build-usage', NAME])).toMatchObject({ exitCode: 0, stdout: '' });
    });
  });

  test('stats are numbers in bytes and seconds', async () => {
    await mkdir(join(dir, 'proc/net'), { recursive: true });
    await writeFile(join(dir, 'proc/meminfo'), 'MemTotal: 4 kB\nMemFree: 1 kB\nMemAvailable: 3 kB\n');
    const { exitCode, stdout } = await guest(['stats']);
    expect(exitCode).toBe(0);
    const stats = JSON.parse(stdout) as Record<string, number>;
    expect(Object.keys(stats)).toEqual([
      'scratchTotalBytes',
      'scratchUsedBytes',
      'scratchFreeBytes',
      'memoryTotalBytes',
      'memoryUsedBytes',
      'uptimeSeconds',
      'routed',
      'shareRetries',
    ]);
    const { routed, ...numbers } = stats;
    expect(routed).toBe(false);
    expect(stats).toMatchObject({ memoryTotalBytes: 4096, memoryUsedBytes: 1024 });
    await writeFile(
      join(dir, 'proc/net/route'),
      'Iface Destination Gateway Flags\neth0 0000000A 0 1\neth0 00000000 0100000A 3\n',
    );
    expect(JSON.parse((await guest(['stats'])).stdout)).toMatchObject({ routed: true });
    expect(Object.values(numbers).every((value) => Number.isFinite(value))).toBe(true);
  });

  test('set-clock leaves a clock alone that is less than two seconds off, and sets any other', async () => {
    await double('date', '[ "$1" = +%s ] && echo 1000');
    for (const time of ['999', '1000', '1001']) expect((await guest(['set-clock', time])).exitCode).toBe(0);
    expect(await calls()).not.toContain(' -s ');
    for (const time of ['998', '1002', '4102444800']) {
      await double('date', 'if [ "$1" = +%s ]; then echo 1000; fi');
      expect((await guest(['set-clock', time])).exitCode).toBe(0);
      expect(await calls()).toContain(`date -s @${time}`);
    }
    await double('date', 'if [ "$1" = +%s ]; then echo 1000; else exit 1; fi');
    const failed = await guest(['set-clock', '5000']);
    expect([failed.exitCode, failed.stderr]).toEqual([1, 'drover-guest: cannot set the clock']);
  });
});

describeWith('drover-guest register', ['nix'], () => {
  beforeEach(async () => {
    await double('mount');
    await nixStore('--load-db');
  });

  /** Nix' own program, on the guest's store. */
  async function nixStore(...args: string[]): Promise<string> {
    const { stdout } = await execa('nix-store', args, { ...options(), input: '', reject: true });
    return stdout;
  }

  /** The rows of Nix' database, a line each. */
  async function rows(): Promise<string[]> {
    const fields = 'path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca';
    const sql = `SELECT ${fields} FROM ValidPaths ORDER BY path;`;
    const { stdout } = await execa('sqlite3', [join(dir, 'var/db/db.sqlite'), sql]);
    return stdout === '' ? [] : stdout.split('\n');
  }

  async function isThere(...names: string[]): Promise<void> {
    for (const name of names) await writeFile(path(name), '');
  }

  const HASH = pathInfo(path('x')).narHash;

  test('makes paths valid with all that the host knows of them, whatever is in it', async () => {
    await isThere('a', 'b');
    const [a, b] = [path('a'), path('b')];
    const infos = [
      pathInfo(a, { ultimate: true, deriver: path('d.drv'), narSize: 120 }),
      pathInfo(b, {
        references: [a, b],
        signatures: ["key:it's", 'two:lines\n.shell id', 'other:AA=='],
        contentAddress: { method: 'nar', algorithm: 'sha256', hash: '0'.repeat(52) },
        registrationTime: 7,
        narSize: 130,
      }),
    ];
    expect(await guest(['register'], formatRegistration(infos))).toMatchObject({
      ...{ exitCode: 0, stdout: '', stderr: '' },
    });
    expect(await rows()).toEqual([
      `${a}|sha256:${HASH}|1|${path('d.drv')}|120|1||`,
      `${b}|sha256:${HASH}|7||130||key:it's other:AA==|fixed:r:sha256:${'0'.repeat(52)}`,
    ]);
    expect((await nixStore('--query', '--references', b)).split('\n')).toEqual([a, b]);
    expect(await calls()).not.toContain('nix-store');
  });

  test('replaces what it knew of a path', async () => {
    await isThere('a', 'b', 'c');
    const [a, b, c] = [path('a'), path('b'), path('c')];
    await guest(['register'], formatRegistration([pathInfo(a), pathInfo(c, { references: [a] })]));
    const other = pathInfo(c, { references: [b], narHash: 'f'.repeat(64), registrationTime: 9 });
    expect(await guest(['register', '--again'], formatRegistration([pathInfo(b), other]))).toMatchObject({
      exitCode: 0,
    });
    expect(await nixStore('--query', '--references', c)).toBe(b);
    expect((await rows())[2]).toMatch(`${c}|sha256:${'f'.repeat(64)}|9|`);
  });

  test('takes a path with more references than SQLite has terms', async () => {
    const names = Array.from({ length: 2_000 }, (_, i) => `p${i}`);
    await isThere(...names, 'top');
    const infos = names.map((name) => pathInfo(path(name)));
    const top = pathInfo(path('top'), { references: names.map(path) });
    expect((await guest(['register'], formatRegistration([...infos, top]))).stderr).toBe('');
    expect((await nixStore('--query', '--references', path('top'))).split('\n')).toHaveLength(2_000);
  });

  test('has Nix read the outputs of derivations', async () => {
    const expression = 'derivation { name = "hello"; system = "any"; builder = "/bin/sh"; }';
    const elsewhere = { ...options().env, NIX_STATE_DIR: join(dir, 'elsewhere') };
    const host = { ...options(), env: elsewhere, reject: true };
    const drv = (await execa('nix-instantiate', ['--expr', expression], host)).stdout;
    const { stdout: out } = await execa('nix-store', ['--query', '--outputs', drv], host);
    await isThere('a');
    const infos = [
      pathInfo(path('a')),
      pathInfo(drv as StorePath, { references: [path('a')], ultimate: true }),
    ];
    const { exitCode, stderr } = await guest(['register'], formatRegistration(infos));
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(await nixStore('--query', '--outputs', drv)).toBe(out);
    expect(await nixStore('--query', '--references', drv)).toBe(path('a'));
    expect((await rows()).find((row) => row.startsWith(drv))).toMatch(/\|1\|\|$/);
  });

  test('refuses a reference that the guest does not have, and registers nothing', async () => {
    await isThere('a', 'b');
    const infos = [pathInfo(path('a')), pathInfo(path('b'), { references: [path('absent')] })];
    const { exitCode, stderr } = await guest(['register'], formatRegistration(infos));
    expect(exitCode).toBe(1);
    expect(stderr).toContain('NOT NULL constraint failed: Refs.reference');
    expect(stderr).toContain('drover-guest: cannot register the paths');
    expect(await rows()).toEqual([]);
  });

  test.each([['the first path'], ['the last byte']])('refuses what was cut off after %s', async (where) => {
    await isThere('a', 'b');
    const whole = formatRegistration([pathInfo(path('a')), pathInfo(path('b'))]);
    const end = where === 'the first path' ? whole.indexOf('INSERT', whole.indexOf('INSERT') + 1) : -10;
    const { exitCode, stderr } = await guest(['register'], whole.slice(0, end));
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/drover-guest: (the registration was cut off|cannot register the paths)/);
    if (where === 'the first path') expect(await rows()).toEqual([]);
  });

  test('looks again at what it does not see, after a remount', async () => {
    await double('mount', `: > ${path('a')}`);
    const { exitCode, stdout } = await guest(['register'], formatRegistration([pathInfo(path('a'))]));
    expect([exitCode, stdout]).toEqual([0, '']);
    expect(await calls()).toContain(`${dir}/bin/mount -o remount overlay ${dir}/store\n`);
    expect(await rows()).toHaveLength(1);
  });

  test('--again believes nothing that it has seen before', async () => {
    await double('mount', `rm -f ${path('a')}`);
    await isThere('a');
    const { exitCode, stdout } = await guest(
      ['register', '--again'],
      formatRegistration([pathInfo(path('a'))]),
    );
    expect([exitCode, stdout]).toEqual([3, path('a')]);
    expect(await rows()).toEqual([]);
  });

  test('--again of nothing forgets what the kernel has looked up', async () => {
    expect(await guest(['register', '--again'], formatRegistration([]))).toMatchObject({ exitCode: 0 });
    expect(await calls()).toContain('mount -o remount');
  });

  test('names what is missing, references that are elsewhere not among it, and registers nothing', async () => {
    await isThere('there');
    const [there, gone, lost, elsewhere] = [path('there'), path('gone'), path('lost'), path('elsewhere')];
    const infos = [pathInfo(gone), pathInfo(there, { references: [elsewhere, gone] }), pathInfo(lost)];
    const { exitCode, stdout } = await guest(['register'], formatRegistration(infos));
    expect([exitCode, stdout.split('\n')]).toEqual([3, [gone, lost]]);
    expect(await rows()).toEqual([]);
  });

  test('copes with ten thousand paths', async () => {
    const infos = Array.from({ length: 10_000 }, (_, i) => pathInfo(path(`p${i}`)));
    const { exitCode, stdout } = await guest(['register'], formatRegistration(infos));
    expect(exitCode).toBe(3);
    expect(stdout.split('\n')).toHaveLength(10_000);
  });

  test('that fails says why', async () => {
    await double('mount', 'exit 32');
    const registration = formatRegistration([pathInfo(path('a'))]);
    const unmounted = await guest(['register'], registration);
    expect([unmounted.exitCode, unmounted.stderr]).toEqual([1, `drover-guest: cannot remount ${dir}/store`]);
    await isThere('a');
    const full = await execa('sh', ['-c', 'ulimit -f 0; exec sh "$0" register', SCRIPT], {
      ...options(),
      input: registration,
    });
    expect([full.exitCode, full.stderr]).toEqual([
      1,
      expect.stringContaining('no room for the registration'),
    ]);
    expect(await rows()).toEqual([]);
    await rm(join(dir, 'var'), { recursive: true });
    const { exitCode, stderr } = await guest(['register'], registration);
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('unable to open database')]);
  });

  test('has started sqlite3 before its input is known', async () => {
    await double('sqlite3', 'exec /usr/bin/sqlite3 "$@"');
    const running = execa('sh', [SCRIPT, 'register'], { ...options(), stdin: 'pipe' });
    await waitUntil('sqlite3', async () => (await calls()).includes('sqlite3'));
    await isThere('a');
    running.stdin.end(formatRegistration([pathInfo(path('a'))]));
    await running;
    expect(await rows()).toHaveLength(1);
  });
});
