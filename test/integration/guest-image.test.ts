import { mkdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { probeNix } from '../../src/drivers/namespace/nix-probe.js';
import { loadImage } from '../../src/drivers/vm/image.js';
import { formatDump } from '../../src/guest/registration.js';
import type { StorePath } from '../../src/protocol/store-path.js';
import { NIX_DIRS } from '../support/nix.js';
import { REPOSITORY } from '../support/drover.js';
import { describeWith } from '../support/requirements.js';
import { pathInfo } from '../support/scripted-daemon.js';
import { ScriptWorld } from '../support/scripts.js';

let world: ScriptWorld;
beforeEach(async () => {
  world = await ScriptWorld.make();
});
afterEach(async () => {
  await world.remove();
});

describeWith('nix-protocol.sh', ['nix'], () => {
  const ask = async (daemon: string) => await world.run('nix/nix-protocol.sh', [daemon]);
  const expectTheSameAsTheSupervisor = async (directory: string): Promise<void> => {
    const { protocol } = await probeNix(directory, process.env);
    const { exitCode, stdout, stderr } = await ask(join(directory, 'nix-daemon'));
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    const { major, minor } = protocol;
    expect(JSON.parse(stdout)).toEqual({ major, minor, features: [...protocol.features] });
  };

  test("finds what the supervisor finds, in Debian's Nix", async () => {
    await expectTheSameAsTheSupervisor(NIX_DIRS.debian);
  });

  describeWith('of a modern Nix', ['nix', 'modern-nix'], () => {
    test('it finds the same, too', async () => {
      await expectTheSameAsTheSupervisor(NIX_DIRS.modern);
    });
  });

  test('knows features by name', async () => {
    // oixd, 1.38, two features
    const answer = String.raw`oixd\0\0\0\0\046\001\0\0\0\0\0\0\002\0\0\0\0\0\0\0\003\0\0\0\0\0\0\0abc\0\0\0\0\0\010\0\0\0\0\0\0\0realised`;
    await world.double('nix-daemon', `printf '${answer}'; cat > /dev/null`);
    const { stdout } = await ask('nix-daemon');
    expect(JSON.parse(stdout)).toEqual({ major: 1, minor: 38, features: ['abc', 'realised'] });
  });

  test.each([
    ['says nothing', 'exit 0'],
    ['is not there', 'exit 127'],
    ['says something else', 'echo hello, world, I am not Nix; cat > /dev/null'],
    ['stops in the middle', String.raw`printf 'oixd\0\0\0\0\046\001'`],
  ])('is told apart from what %s', async (_, body) => {
    await world.double('nix-daemon', body);
    expect(await ask('nix-daemon')).toEqual({
      exitCode: 1,
      stdout: '',
      stderr: 'nix-protocol: nix-daemon does not speak the worker protocol',
    });
  });
});

describeWith('guest-image.sh', ['nix', 'jq'], () => {
  const KERNEL = Buffer.alloc(0x300);
  KERNEL.write('ARMd', 0x38, 'latin1');

  const make = async (directory: string, env: Readonly<Record<string, string>> = {}) =>
    await world.run('nix/guest-image.sh', [world.path(directory), join(REPOSITORY, 'nix/nix-protocol.sh')], {
      kernel: await world.write('Image', KERNEL),
      initrd: await world.write('initrd', 'an initrd'),
      architecture: 'aarch64',
      systems: 'aarch64-linux x86_64-linux',
      translators: 'qemu-user',
      commandLine: 'quiet init=/nix/store/system/init "quoted\\"',
      shell: '/nix/store/busybox/bin/busybox',
      toplevel: world.dir,
      ...env,
    });

  test('makes an image that drivers accept, of files where they are', async () => {
    expect(await make('image')).toMatchObject({ exitCode: 0, stderr: '' });
    const image = await loadImage(world.path('image/manifest.json'));
    expect(image).toMatchObject({
      nixVersion: (await probeNix(NIX_DIRS.debian, process.env)).nixVersion,
      systems: ['aarch64-linux', 'x86_64-linux'],
      translators: ['qemu-user'],
      architecture: 'aarch64',
      commandLine: 'quiet init=/nix/store/system/init "quoted\\"',
      shell: '/nix/store/busybox/bin/busybox',
    });
    expect(await realpath(image.kernel)).toBe(world.path('Image'));
    expect(await realpath(image.initrd)).toBe(world.path('initrd'));
  });

  test('of another generation if anything is different, and of the same if nothing is', async () => {
    const generation = async (directory: string, env: Readonly<Record<string, string>>): Promise<string> => {
      await make(directory, env);
      const manifest = JSON.parse(await readFile(world.path(directory, 'manifest.json'), 'utf8')) as {
        generation: string;
      };
      return manifest.generation;
    };
    const variants = [
      {},
      { commandLine: 'init=/nix/store/other/init' },
      { systems: 'aarch64-linux' },
      { kernel: await world.write('other', 'x') },
      { initrd: await world.write('other', 'x') },
    ];
    const generations = await Promise.all(variants.map((env, index) => generation(`image${index}`, env)));
    expect(new Set(generations).size).toBe(variants.length);
    expect(await generation('again', {})).toBe(generations[0]);
  });

  test('a Nix that cannot be asked', async () => {
    await world.double('nix-daemon', 'echo "(Nix) 2.99.0"');
    expect(await make('image')).toMatchObject({
      exitCode: 1,
      stderr: 'nix-protocol: nix-daemon does not speak the worker protocol',
    });
  });

  test('something that it was not told', async () => {
    expect((await make('image', { shell: '' })).stderr).toMatch(/shell/);
  });
});

describeWith('guest-registration.sh', ['nix'], () => {
  const path = (name: string): StorePath => `${world.dir}/store/${'0'.repeat(32)}-${name}` as StorePath;
  const make = async (paths: Readonly<Record<string, readonly string[]>>) => {
    const infos = Object.entries(paths).map(([name, references]) =>
      pathInfo(path(name), { references: references.map(path) }),
    );
    await world.write('store-paths', infos.map((info) => `${info.path}\n`).join(''));
    await world.write('registration', formatDump(infos));
    const { exitCode, stdout, stderr } = await world.run('nix/guest-registration.sh', [
      world.path('store-paths'),
      world.path('registration'),
    ]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    return stdout === '' ? '' : `${stdout}\n`;
  };
  const records = (paths: Readonly<Record<string, readonly string[]>>): string =>
    formatDump(
      Object.entries(paths).map(([name, references]) =>
        pathInfo(path(name), { references: references.map(path) }),
      ),
    );

  test('keeps everything where all names are different', async () => {
    const all = { libc: ['libc'], sh: ['libc', 'sh'], system: ['sh', 'libc'] };
    await world.write(`store/${'0'.repeat(32)}-libc/lib/a`, '');
    await world.write(`store/${'0'.repeat(32)}-sh/lib/A`, '');
    await world.write(`store/${'0'.repeat(32)}-system`, 'a file');
    expect(await make(all)).toBe(records(all));
  });

  test('drops what has names that differ only in case, and all that refers to it, however far', async () => {
    // A path is listed before its references, as Nix lists them, and after them.
    const all = {
      top: ['system'],
      system: ['curses', 'libc'],
      libc: [],
      curses: ['libc'],
      editor: ['curses'],
      other: ['libc'],
    };
    for (const name of Object.keys(all)) await world.write(`store/${'0'.repeat(32)}-${name}/file`, '');
    await world.write(`store/${'0'.repeat(32)}-curses/share/terminfo/N/next`, '');
    await world.write(`store/${'0'.repeat(32)}-curses/share/terminfo/n/nxterm`, '');
    expect(await make(all)).toBe(records({ libc: [], other: ['libc'] }));
  });

  test('copes with odd names', async () => {
    const odd = { odd: [], fine: [] };
    await world.write(`store/${'0'.repeat(32)}-odd/a\nb\tc $(d)`, '');
    await world.write(`store/${'0'.repeat(32)}-odd/a\nB\tc $(d)`, '');
    await world.write(`store/${'0'.repeat(32)}-fine/a`, '');
    await world.write(`store/${'0'.repeat(32)}-fine/b\nc`, '');
    expect(await make(odd)).toBe(records({ fine: [] }));
  });

  test('what is left is complete: Nix takes it', async () => {
    const all = { libc: [], curses: ['libc'], sh: ['libc'] };
    for (const name of Object.keys(all)) await world.write(`store/${'0'.repeat(32)}-${name}/file`, '');
    await world.write(`store/${'0'.repeat(32)}-curses/FILE`, '');
    await mkdir(world.path('var'));
    const { stderr } = await execa('nix-store', ['--load-db'], {
      input: await make(all),
      env: {
        ...world.env(),
        NIX_STORE_DIR: world.path('store'),
        NIX_STATE_DIR: world.path('var'),
        NIX_CONF_DIR: world.dir,
        NIX_CONFIG: 'build-users-group =',
      },
    });
    expect(stderr).toBe('');
  });
});
