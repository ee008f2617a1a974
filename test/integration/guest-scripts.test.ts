import { existsSync } from 'node:fs';
import { appendFile, mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { configDisk } from '../../src/drivers/qemu/config-disk.js';
import { formatDump } from '../../src/guest/registration.js';
import type { StorePath } from '../../src/protocol/store-path.js';
import { REPOSITORY } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';
import { pathInfo } from '../support/scripted-daemon.js';
import { ScriptWorld } from '../support/scripts.js';
import { waitUntil } from '../support/wait.js';

const IDENTITY = {
  'guest.env': 'name=g7\nscratch_bytes=1024\nnetwork=none\nshare=virtiofs\n',
  'nix.conf': 'cores = 1\n',
  'manifest.json': '{}\n',
  host_key: 'a private key\n',
  authorized_keys: 'a public key\n',
};
/** Defines tests for each shell of guests: NixOS's have bash, Debian's image has busybox. */
function byEachShell(define: (shell: readonly string[]) => void): void {
  for (const shell of ['bash', 'dash']) {
    describe(`by ${shell}`, () => {
      define([shell]);
    });
  }
  describeWith('by busybox', ['busybox'], () => {
    define(['busybox', 'sh']);
  });
}

let world: ScriptWorld;
beforeEach(async () => {
  world = await ScriptWorld.make();
});
afterEach(async () => {
  await world.remove();
});

describe('take-identity.sh', () => {
  const disk = async (files: Readonly<Record<string, string>>): Promise<void> => {
    // The kernel ends a serial number with no newline.
    await world.write('sys/block/vda/serial', 'drover-scratch');
    await world.write('sys/block/vdb/serial', 'drover-config');
    await mkdir(world.path('sys/block/loop0'));
    const contents = Object.entries(files).map(([name, content]) => ({
      name,
      content,
      mode: 0o644 as const,
    }));
    await world.write('dev/vdb', configDisk(contents));
    await mkdir(world.path('proc/sys/kernel'), { recursive: true });
  };
  const share = async (files: Readonly<Record<string, string>>): Promise<void> => {
    for (const [name, content] of Object.entries(files)) await world.write(`shared/${name}`, content);
    await world.double('mount', `for directory; do :; done; cp ${world.path('shared')}/* "$directory"`);
    await world.double('umount', 'rm "$1"/*');
    await mkdir(world.path('proc/sys/kernel'), { recursive: true });
  };
  const take = async (shell: readonly string[] = ['sh']) =>
    await world.run('guest-config/take-identity.sh', [world.path('run')], {}, shell);

  byEachShell((shell) => {
    test.each([
      { from: 'a disk', provide: disk },
      // busybox's sh has a mount of its own; guests with it have the disk.
      ...(shell[0] === 'busybox' ? [] : [{ from: 'a share', provide: share }]),
    ])('from $from: all of the files, for root only, and the name', async ({ provide }) => {
      await provide(IDENTITY);
      expect(await take(shell)).toEqual({ exitCode: 0, stdout: '', stderr: '' });
      expect((await readdir(world.path('run'))).sort()).toEqual(Object.keys(IDENTITY).sort());
      for (const [name, content] of Object.entries(IDENTITY)) {
        expect(await world.read(`run/${name}`)).toBe(content);
        expect((await stat(world.path('run', name))).mode & 0o777).toBe(0o600);
      }
      expect((await stat(world.path('run'))).mode & 0o777).toBe(0o700);
      expect(await world.read('proc/sys/kernel/hostname')).toBe('g7\n');
    });
  });

  test('the share is mounted read-only, and not kept', async () => {
    await share(IDENTITY);
    await take();
    const at = world.path('run/share');
    expect(await world.calls()).toBe(`mount -t virtiofs -o ro drover ${at}\numount ${at}\n`);
  });

  test('a file that is missing, or empty, is named on the console', async () => {
    await disk({ ...IDENTITY, host_key: '' });
    expect((await take()).exitCode).toBe(1);
    expect(await world.console()).toBe('drover: the host has given this guest no host_key\n');
  });

  test('a disk that is not an archive', async () => {
    await disk(IDENTITY);
    await writeFile(world.path('dev/vdb'), Buffer.alloc(4096, 'x'));
    expect((await take()).exitCode).toBe(1);
    expect(await world.console()).toBe('drover: the disk drover-config cannot be read\n');
  });

  test('neither a disk nor a share', async () => {
    await world.double('mount', 'exit 32');
    expect((await take()).exitCode).toBe(1);
    expect(await world.console()).toBe(
      'drover: the host has not said who this guest is: there is neither a disk drover-config nor a share drover\n',
    );
  });
});

describe('ssh-port.sh', () => {
  byEachShell((shell) => {
    test('runs its command on the port once the host is there', async () => {
      await world.write('sys/class/virtio-ports/vport1p1/name', 'org.other\n');
      await world.write('sys/class/virtio-ports/vport2p1/name', 'drover.ssh\n');
      const port = await world.write('dev/vport2p1', '');
      const command = ['sh', '-c', 'read -r line; echo "said: $line, $*"', 'sh', 'two words'];
      const running = world.run('guest-config/ssh-port.sh', command, {}, shell);
      // It reads end of file until then, and goes on.
      await appendFile(port, 'noise\ndrover\nhello\n');
      expect(await running).toEqual({ exitCode: 0, stdout: '', stderr: '' });
      expect(await readFile(port, 'utf8')).toBe('noise\ndrover\nhello\nsaid: hello, two words\n');
    });
  });

  test('without such a port it says so', async () => {
    await world.write('sys/class/virtio-ports/vport1p1/name', 'org.other\n');
    expect((await world.run('guest-config/ssh-port.sh', ['true'])).exitCode).toBe(1);
    expect(await world.console()).toBe('drover: there is no port drover.ssh\n');
  });
});

describe('console-shell.sh', () => {
  test.each([
    // busybox's sh has an stty of its own.
    { shell: ['bash'], parameter: 'drover.console=77x33,xterm-256color' },
    { shell: ['dash'], parameter: 'drover.console' },
  ])(
    "runs a login shell on a terminal of the client's size and type ($parameter), by $shell",
    async ({ shell, parameter }) => {
      await world.write('proc/cmdline', `quiet ${parameter} panic=1\n`);
      await world.double('stty');
      await world.double('login-shell', 'echo "$TERM $HOME"');
      const { exitCode, stdout } = await world.run(
        'guest-config/console-shell.sh',
        ['login-shell'],
        {},
        shell,
      );
      expect({ exitCode, stdout }).toEqual({
        exitCode: 0,
        stdout: parameter.includes('=') ? 'xterm-256color /root' : 'dumb /root',
      });
      const size = parameter.includes('=') ? 'cols 77 rows 33' : 'cols 80 rows 24';
      expect(await world.calls()).toBe(`stty ${size}\nlogin-shell -l\n`);
    },
  );
});

describeWith('format-scratch.sh', ['e2fsprogs'], () => {
  const MEBIBYTE = 1024 ** 2;
  const makeDisk = async (bytes: number): Promise<string> => {
    const disk = await world.write('disk', '');
    await truncate(disk, bytes);
    expect(await world.run('guest-config/format-scratch.sh', [disk])).toEqual({
      exitCode: 0,
      stdout: '',
      stderr: '',
    });
    return disk;
  };

  test('makes a file system of 100 GiB that takes next to nothing', async () => {
    const disk = await makeDisk(100 * 1024 * MEBIBYTE);
    expect((await stat(disk)).blocks * 512).toBeLessThan(4 * MEBIBYTE);
    const { stdout } = await execa('dumpe2fs', ['-h', disk], { env: world.env(), stderr: 'ignore' });
    expect(stdout).toContain('Filesystem state:         clean');
    expect(stdout).toMatch(/Reserved block count: +0\n/);
    expect(stdout).not.toMatch(/has_journal|metadata_csum/);
  });

  const canMount = process.getuid?.() === 0 && existsSync('/dev/loop-control');
  (canMount ? test : test.skip)('which can be mounted as guests do it, and written to', async () => {
    const disk = await makeDisk(64 * MEBIBYTE);
    const store = await readFile(join(REPOSITORY, 'guest-config/nixos/store.nix'), 'utf8');
    const options = [...(/scratchOptions = \[([^\]]*)\]/.exec(store)?.[1] ?? '').matchAll(/"(.*)"/g)].map(
      ([, option]) => option ?? '',
    );
    expect(options).toContain('noinit_itable');
    const script = 'mount -o "loop,$1" "$2" "$3" && echo written > "$3/file" && cat "$3/file" && df -kP "$3"';
    const { stdout } = await execa('unshare', [
      '-m',
      'sh',
      '-ec',
      script,
      'sh',
      options.join(),
      disk,
      await directory('mnt'),
    ]);
    expect(stdout).toMatch(/^written\n/);
    expect(Number(/\n\/dev\/\S+ +(\d+)/.exec(stdout)?.[1])).toBeGreaterThan(56 * 1024);
  });

  const directory = async (name: string): Promise<string> => {
    await mkdir(world.path(name));
    return world.path(name);
  };

  test('an unusable disk', async () => {
    const { exitCode, stderr } = await world.run('guest-config/format-scratch.sh', [world.path('missing')]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain('missing');
  });
});

describe('canary.sh', () => {
  const nixConf = 'cores = 0\nextra-platforms = i686-linux x86_64-linux armv7l-linux\nsandbox = true\n';
  const refused = 'cores = 0\nextra-platforms = i686-linux armv7l-linux\nsandbox = true\n';
  /** @param registered names in binfmt_misc */
  const run = async (translators: string, registered = ['rosetta', 'x86_64-linux']) => {
    await world.write('run/guest.env', `name=g1\n${translators}\n`);
    await world.write('run/nix.conf', nixConf);
    for (const name of registered) await world.write(`binfmt/${name}`, '');
    return await world.run('guest-config/canary.sh', [world.path('run')], {
      DROVER_BINFMT: world.path('binfmt'),
      DROVER_BROKEN_SYSTEMS: world.path('broken'),
      DROVER_TRANSLATOR: world.path('translator'),
    });
  };
  /** The state of each in the kernel: 1 if it is enabled. */
  const switches = async (): Promise<string> =>
    `${await world.read('binfmt/rosetta')}${await world.read('binfmt/x86_64-linux')}`;
  /** Program runs where the kernel has this translator enabled. */
  const onlyBy = (name: string): string =>
    `[ "$(cat ${world.path('binfmt', name)})" = 1 ] && exit 42; echo "cannot run" >&2; exit 1`;

  (process.arch === 'x64' ? test : test.skip)('is content where x86_64 programs run', async () => {
    expect(await run('translators=rosetta,qemu-user')).toEqual({ exitCode: 0, stdout: '', stderr: '' });
    expect([await world.console(), await world.read('broken')]).toEqual(['', '']);
    expect(await world.read('translator')).toBe('rosetta\n');
    expect(await switches()).toBe('1\n0\n');
    expect(await world.read('run/nix.conf')).toBe(nixConf);
    expect((await readdir(world.path('run'))).sort()).toEqual(['guest.env', 'nix.conf']);
  });

  test('takes the next one where the first runs nothing, and says why', async () => {
    await world.double('timeout', onlyBy('x86_64-linux'));
    expect((await run('translators=rosetta,qemu-user')).exitCode).toBe(0);
    expect(await world.console()).toBe(
      'drover: rosetta does not run x86_64 programs in this guest (exit status 1: cannot run)\n',
    );
    expect(await world.read('translator')).toBe('qemu-user\n');
    expect(await switches()).toBe('0\n1\n');
    expect(await world.read('broken')).toBe('');
    expect(await world.read('run/nix.conf')).toBe(nixConf);
  });

  test('disables what the host does not want, though it would work', async () => {
    await world.double('timeout', 'exit 42');
    await run('translators=qemu-user');
    expect(await switches()).toBe('0\n1\n');
    expect(await world.read('translator')).toBe('qemu-user\n');
  });

  test('says that one is not there', async () => {
    await world.double('timeout', 'exit 42');
    await run('translators=rosetta,qemu-user', ['x86_64-linux']);
    expect(await world.console()).toBe('drover: rosetta is not registered in this guest\n');
    expect(await world.read('translator')).toBe('qemu-user\n');
  });

  test.each([
    ['cannot be executed', 'exit 126', '126'],
    [
      'fail in Rosetta',
      'echo "rosetta error: unhandled auxillary vector type 29" >&2; echo more >&2; exit 133',
      '133: rosetta error: unhandled auxillary vector type 29',
    ],
    ['crash', 'kill -SEGV $$', '139: Segmentation fault'],
    ['do as if', 'exit 0', '0'],
  ])('says, to all whom it concerns, that x86_64 programs %s', async (_, body, status) => {
    await world.double('timeout', body);
    expect((await run('translators=rosetta,qemu-user')).exitCode).toBe(0);
    expect(await world.console()).toBe(
      [
        `drover: rosetta does not run x86_64 programs in this guest (exit status ${status})`,
        `drover: qemu-user does not run x86_64 programs in this guest (exit status ${status})`,
        'drover: x86_64-linux is not offered\n',
      ].join('\n'),
    );
    expect(await switches()).toBe('0\n0\n');
    expect([await world.read('broken'), await world.read('translator')]).toEqual(['x86_64-linux\n', '']);
    expect(await world.read('run/nix.conf')).toBe(refused);
  });

  test.each([['translators='], ['']])(
    'where the host has none, nothing is tried or said: %j',
    async (translators) => {
      await world.double('timeout');
      expect((await run(translators)).exitCode).toBe(0);
      expect([await world.calls(), await world.console()]).toEqual(['', '']);
      expect(await switches()).toBe('0\n0\n');
      expect(await world.read('broken')).toBe('x86_64-linux\n');
      expect(await world.read('run/nix.conf')).toBe(refused);
    },
  );
});

describe('rosettad.sh', () => {
  const prepare = async (rosetta: string) => {
    await world.write('run/guest.env', `rosetta=${rosetta}\n`);
    await world.double('mount');
  };
  const run = async () =>
    await world.run('guest-config/rosettad.sh', [
      world.path('run'),
      world.path('bin/rosettad'),
      world.path('cache'),
      world.path('shown'),
    ]);

  test('shows the socket of the daemon to builds, and ends with it', async () => {
    const listen = `const { mkdirSync } = require('fs'); mkdirSync(process.argv[2] + '/uds', { mode: 0o700 });
      require('net').createServer(() => process.exit(0)).listen(process.argv[2] + '/uds/rosetta.sock');`;
    await world.write('daemon.cjs', listen);
    await world.double('rosettad', `exec '${process.execPath}' ${world.path('daemon.cjs')} "$2"`);
    await prepare('cache');
    const running = run();
    const mounted = `mount -o bind ${world.path('cache/uds')} ${world.path('shown')}\n`;
    await waitUntil('the socket is shown', async () => (await world.calls()).includes(mounted) || undefined);
    const socket = world.path('cache/uds/rosetta.sock');
    const modes = await Promise.all(
      [world.path('cache'), world.path('cache/uds'), socket].map((file) => stat(file)),
    );
    expect(modes.map(({ mode }) => mode & 0o777)).toEqual([0o711, 0o711, 0o666]);
    connect(socket).on('error', () => undefined);
    expect((await running).exitCode).toBe(0);
  });

  test('fails when the daemon does', async () => {
    await world.double('rosettad', 'exit 3');
    await prepare('cache');
    expect((await run()).exitCode).toBe(1);
  });

  test.each([['on'], ['off']])('does nothing where the host has said %s', async (rosetta) => {
    await world.double('rosettad');
    await prepare(rosetta);
    expect((await run()).exitCode).toBe(0);
    expect(await world.calls()).toBe('');
  });
});

describeWith('load-registration.sh', ['nix'], () => {
  test('makes the paths of the file valid that the command line names', async () => {
    const path = (name: string): StorePath => `${world.dir}/store/${'0'.repeat(32)}-${name}` as StorePath;
    await world.write(
      'registration',
      formatDump([pathInfo(path('a')), pathInfo(path('b'), { references: [path('a')] })]),
    );
    await world.write(
      'proc/cmdline',
      `quiet init=/x drover.registration=${world.path('registration')} panic=-1\n`,
    );
    const env = {
      NIX_STORE_DIR: world.path('store'),
      NIX_STATE_DIR: world.path('var'),
      NIX_CONF_DIR: world.dir,
      NIX_LOG_DIR: world.path('log'),
      NIX_CONFIG: 'build-users-group =',
    };
    await mkdir(path('a'), { recursive: true });
    await mkdir(path('b'), { recursive: true });
    expect((await world.run('guest-config/load-registration.sh', [], env)).exitCode).toBe(0);
    const { stdout } = await execa('nix-store', ['--query', '--requisites', path('b')], {
      env: { ...world.env(), ...env },
    });
    expect(stdout).toBe(`${path('a')}\n${path('b')}`);
  });

  test('without that on the command line it says so', async () => {
    await world.write('proc/cmdline', 'quiet init=/x\n');
    expect((await world.run('guest-config/load-registration.sh')).exitCode).toBe(1);
    expect(await world.console()).toBe("drover: the kernel's command line has no drover.registration\n");
  });
});

describe('exact-store.sh', () => {
  const run = async (cmdline: string): Promise<string> => {
    await world.write('proc/cmdline', `quiet ${cmdline} panic=-1\n`);
    await world.write('share/abc-listing', 'the listing');
    await world.double('mount');
    await world.double('program', `[ "$1" != show ] || cat > ${world.path('shown')}`);
    const { exitCode, stderr } = await world.run(
      'guest-config/exact-store.sh',
      [world.path('bin/program'), world.path('share'), world.path('host')],
      { DROVER_EXACT_STORE: '/run/s' },
    );
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    return (await world.calls()).replaceAll(`${world.dir}/`, '');
  };

  test.each([
    ['', 'literal'],
    [' drover.case-hack', 'case-hack'],
  ])('mounts, and shows the listing of the image: exact%s', async (more, names) => {
    expect(await run(`drover.store=exact${more} drover.listing=/nix/store/abc-listing`)).toBe(
      `program mount share host /run/s\nprogram show /run/s ${names}\n`,
    );
    expect(await world.read('shown')).toBe('the listing');
  });

  test('leaves the share as it is where the supervisor says so', async () => {
    expect(await run('drover.store=raw drover.listing=/nix/store/abc-listing')).toBe(
      'mount -o bind share host\n',
    );
  });
});

describe('on the console', () => {
  test('boot-failed.sh names what has failed, and why, and powers off', async () => {
    await world.double(
      'systemctl',
      'if [ "$1" = list-units ]; then echo "sysroot-nix-.share.mount loaded failed failed x"; echo "other.service a b"; fi',
    );
    await world.double('journalctl', 'case $* in *share*) echo "mount: wrong fs type" ;; esac');
    const { exitCode } = await world.run('guest-config/boot-failed.sh', [], {
      DROVER_SCRATCH_DISK: world.dir,
    });
    expect(exitCode).toBe(0);
    expect(await world.calls()).toMatch(/systemctl poweroff --force --force\n$/);
    expect(await world.console()).toBe(
      [
        "drover: sysroot-nix-.share.mount has failed: the host does not share its store, where this guest's system is (mount: wrong fs type)\n",
        'drover: other.service has failed: for no reason that it told\n',
      ].join(''),
    );
  });

  test('boot-failed.sh misses the scratch disk', async () => {
    await world.double('systemctl');
    await world.run('guest-config/boot-failed.sh', [], { DROVER_SCRATCH_DISK: world.path('none') });
    expect(await world.console()).toBe('drover: there is no disk drover-scratch\n');
  });

  test('unit-ended.sh says which unit has ended, and how', async () => {
    const env = { SERVICE_RESULT: 'signal', EXIT_CODE: 'killed', EXIT_STATUS: 'KILL' };
    expect((await world.run('guest-config/unit-ended.sh', ['the', 'daemon'], env)).exitCode).toBe(0);
    expect(await world.console()).toBe('drover: the daemon has ended: signal (killed KILL)\n');
  });

  test('guest-up.sh says that it is up', async () => {
    expect((await world.run('guest-config/guest-up.sh', [], { DROVER_PROC: '/proc' })).exitCode).toBe(0);
    expect(await world.console()).toMatch(/^drover: guest is up \(\d+\.\d+ s\)\n$/);
  });
});
