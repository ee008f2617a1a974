import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { watchConfig, watchedDirectories } from '../../src/config/watch.js';
import { REPOSITORY } from '../support/drover.js';
import { asWatched, watchedBy } from '../support/inotify.js';
import { describeWith } from '../support/requirements.js';
import { within } from '../support/wait.js';

let directory: string;
let stop: (() => Promise<void>) | undefined;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'drover-watch-'));
});

afterEach(async () => {
  await stop?.();
  stop = undefined;
  await rm(directory, { recursive: true, force: true });
});

/** Begins to watch, then changes something, and waits until that is noticed; and so with each change. */
async function expectNoticed(file: string, ...changes: (() => Promise<void>)[]): Promise<void> {
  let noticed = (): void => {
    throw new Error('noticed, and nothing had changed');
  };
  stop = await watchConfig(
    file,
    () => {
      noticed();
    },
    (error) => {
      throw error;
    },
  );
  for (const change of changes) {
    const notice = new Promise<void>((resolve) => (noticed = resolve));
    await change();
    await within('the change to be noticed', notice);
  }
}

/** Makes `link` point to `target`, in the way of `ln -sfn` and of nix-darwin. */
async function relink(target: string, link: string): Promise<void> {
  await rm(link, { force: true });
  await symlink(target, link);
}

/** Makes `link` point to `target`, in one step, as NixOS does. */
async function swapLink(target: string, link: string): Promise<void> {
  await symlink(target, `${link}.new`);
  await rename(`${link}.new`, link);
}

test('a file that is written', async () => {
  const file = join(directory, 'drover.yaml');
  await writeFile(file, 'log: { level: info }');
  await expectNoticed(file, () => writeFile(file, 'log: { level: debug }'));
});

test('a file that is replaced, as editors do', async () => {
  const file = join(directory, 'drover.yaml');
  await writeFile(file, 'log: { level: info }');
  await expectNoticed(file, async () => {
    await writeFile(`${file}.new`, 'log: { level: debug }');
    await rename(`${file}.new`, file);
  });
});

test('a file that is made later, in a directory that is made later', async () => {
  const file = join(directory, 'etc/drover.yaml');
  await expectNoticed(
    file,
    async () => {
      await mkdir(join(directory, 'etc'));
      await writeFile(file, '# one');
    },
    () => writeFile(file, '# two'),
    () => rm(file),
  );
});

test('a link that is made to point elsewhere', async () => {
  const file = join(directory, 'drover.yaml');
  for (const name of ['one', 'two']) await writeFile(join(directory, name), `# ${name}`);
  await symlink(join(directory, 'one'), file);
  await expectNoticed(
    file,
    () => swapLink(join(directory, 'two'), file),
    () => writeFile(join(directory, 'two'), '# three'),
    () => relink('one', file),
  );
});

test('a link further on that is made to point elsewhere', async () => {
  const file = join(directory, 'drover.yaml');
  const current = join(directory, 'static/current');
  await mkdir(join(directory, 'static'));
  for (const name of ['one', 'two']) await writeFile(join(directory, name), `# ${name}`);
  await symlink(join(directory, 'one'), current);
  await symlink('static/current', file);
  await expectNoticed(
    file,
    () => swapLink(join(directory, 'two'), current),
    () => relink(join(directory, 'one'), current),
  );
});

test('a directory on the way that is another one from then on, as /etc/static of nix-darwin and NixOS', async () => {
  const etc = join(directory, 'etc');
  await mkdir(join(etc, 'drover'), { recursive: true });
  for (const name of ['one', 'two']) {
    await mkdir(join(directory, name, 'drover'), { recursive: true });
    await writeFile(join(directory, name, 'drover/drover.yaml'), `# ${name}`);
  }
  await symlink(join(directory, 'one'), join(etc, 'static'));
  await symlink(join(etc, 'static/drover/drover.yaml'), join(etc, 'drover/drover.yaml'));
  await expectNoticed(
    join(etc, 'drover/drover.yaml'),
    () => swapLink(join(directory, 'two'), join(etc, 'static')),
    () => relink(join(directory, 'one'), join(etc, 'static')),
    () => swapLink(join(directory, 'two'), join(etc, 'static')),
  );
});

describeWith('the root directory', ['root'], () => {
  test('is never watched, though a link in it leads to the file, as /etc does on macOS', async () => {
    const link = join('/', `drover-watch-${process.pid}`);
    await writeFile(join(directory, 'drover.yaml'), '# one');
    await symlink(directory, link);
    try {
      const file = join(link, 'drover.yaml');
      expect(await watchedDirectories(file)).toEqual([directory]);
      await expectNoticed(file, () => writeFile(file, '# two'));
      if (process.platform !== 'linux') return;
      const watched = await watchedBy(process.pid);
      expect(watched).toContain(await asWatched(process.pid, directory));
      expect(watched).not.toContain(await asWatched(process.pid, '/'));
    } finally {
      await rm(link);
    }
  });
});

describeWith('where the kernel lets nothing more be watched', ['root', 'dist'], () => {
  test('that is told, and ends nothing', async () => {
    const script = `
      import { watchConfig } from '${join(REPOSITORY, 'dist/config/watch.js')}';
      const stop = await watchConfig(process.argv[1], () => {}, (error) => console.log(error.code));
      await stop();
      console.log('stopped');`;
    const { stdout } = await execa('unshare', [
      ...['--user', '--map-root-user', 'sh', '-euc'],
      'echo 0 > /proc/sys/user/max_inotify_watches; exec "$0" --input-type=module -e "$1" "$2"',
      ...[process.execPath, script, join(directory, 'drover.yaml')],
    ]);
    expect(stdout.split('\n')).toEqual(['ENOSPC', 'stopped']);
  });
});
