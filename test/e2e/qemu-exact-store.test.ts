import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { REPOSITORY, type Drover } from '../support/drover.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e, QEMU_DIR } from '../support/requirements.js';
import { lossOf, onlyGuest, ROOT_BUILDS, startVmDrover, VM_DEADLINE_MS } from '../support/vms.js';

/** As on a Mac: files whose names differ in case only get a suffix on disk. */
const CASE_HACK = { NIX_CONFIG: 'use-case-hack = true' };

/**
 * Writes to `$out` every file in `$input` with its first line, and what a build gets that looks for names in
 * another case. For any shell, without other programs.
 */
const PROBE = `{
  for f in $input/*/*; do read -r line < $f || line=unreadable; echo "\${f#$input/}: $line"; done
  for name in include/version Include/VERSION casey/fOO casey/link; do
    line=absent; [ ! -e $input/$name ] || read -r line < $input/$name; echo "$name: $line"
  done
} > $out`;

/** A directory with a virtiofsd that shares the store as a Mac would: by a volume that ignores case. */
async function macVolume(): Promise<string> {
  const dir = await mkdtemp('/tmp/drover-mac-volume-');
  const source = join(REPOSITORY, 'test/fixtures/mac-volume/mac-volume.c');
  await execa('cc', ['-O1', '-Wall', '-Wextra', '-Werror', '-o', join(dir, 'mac-volume'), source]);
  const virtiofsd = [
    '#!/bin/sh',
    'set -eu',
    `case $1 in --version) exec ${QEMU_DIR}/virtiofsd "$@" ;; esac`,
    // The framework, too, keeps a descriptor for each file.
    'for word; do',
    '  shift',
    '  case $word in --inode-file-handles=*) word=--inode-file-handles=never ;; esac',
    '  set -- "$@" "$word"',
    'done',
    'exec unshare --mount --propagation private \\',
    `  ${dir}/mac-volume /nix/store ${QEMU_DIR}/virtiofsd "$@"`,
    '',
  ];
  await writeFile(join(dir, 'virtiofsd'), virtiofsd.join('\n'), { mode: 0o755 });
  return dir;
}

describeE2e('the exact store in a VM whose host ignores case', ['vms'], () => {
  let dir: string;
  let drover: Drover;
  let host: NixHost;

  beforeAll(async () => {
    dir = await macVolume();
    drover = await startVmDrover({
      guest: ROOT_BUILDS,
      pool: { maxGuests: 1 },
      env: { ...CASE_HACK, PATH: `${dir}:${QEMU_DIR}:${process.env['PATH'] ?? ''}` },
    });
    host = await nixHost({ drover, deadlineMs: VM_DEADLINE_MS });
  });
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  async function add(path: string): Promise<string> {
    return succeeded(
      await host.run('nix-store', ['--option', 'use-case-hack', 'true', '--add', path]),
    ).stdout.trim();
  }

  async function buildWith(input: string, name: string, script: string, attributes = ''): Promise<string> {
    const expression = host.derivation(name, script, `input = builtins.storePath ${input}; ${attributes}`);
    const { outputs } = succeeded(await host.build(expression));
    return await readFile(outputs[0] ?? '', 'utf8');
  }

  /** The same build on this machine, with a store of its own that keeps names as they are. */
  async function buildLocally(input: string, name: string, script: string): Promise<string> {
    const root = join(dir, 'local');
    const expression = host.derivation(name, script, `input = ${input};`);
    const options = [
      '--no-out-link',
      '--max-jobs',
      '1',
      '--builders',
      '',
      '--option',
      'system',
      'x86_64-linux',
    ];
    const { stdout } = await execa('nix-build', [...options, '-E', expression], {
      env: {
        ...{ NIX_STORE_DIR: `${root}/store`, NIX_STATE_DIR: `${root}/var`, NIX_LOG_DIR: `${root}/log` },
        NIX_CONF_DIR: host.dir,
      },
    });
    return await readFile(stdout.trim(), 'utf8');
  }

  async function casey(): Promise<string> {
    const directory = join(dirname(await host.writeFile('x', '')), `${host.id}-casey`);
    await mkdir(directory, { recursive: true });
    for (const name of ['FOO', 'Foo', 'foo']) await writeFile(join(directory, name), `content of ${name}`);
    return await add(directory);
  }

  test(
    'a build sees the names that Nix gave, of a path that is shared and not copied',
    async () => {
      const path = await casey();
      expect(
        await buildWith(path, 'casey', 'for f in $input/*; do echo "${f##*/}: $(cat $f)"; done > $out'),
      ).toBe('FOO: content of FOO\nFoo: content of Foo\nfoo: content of foo\n');
      const hash = '/usr/bin/nix-store --dump $input | sha256sum | cut -d " " -f 1 > $out';
      const dumped = await buildWith(path, 'casey-nar', hash, '__noChroot = true;');
      const known = succeeded(await host.run('nix-store', ['-q', '--hash', path])).stdout.trim();
      const base16 = succeeded(
        await host.run('nix-hash', ['--to-base16', '--type', 'sha256', known.replace(/^sha256:/, '')]),
      );
      expect(dumped.trim()).toBe(base16.stdout.trim());
      expect((await drover.status()).totals).toMatchObject({ copiedPaths: 0 });
      expect((await drover.status()).warnings.join()).not.toContain('exact-store');
    },
    VM_DEADLINE_MS,
  );

  test(
    'an output is what a local build makes, where the raw share makes another',
    async () => {
      const directory = join(host.dir, `${host.id}-tree`);
      for (const name of ['include', 'casey']) await mkdir(join(directory, name), { recursive: true });
      await writeFile(join(directory, 'include/VERSION'), 'the version\n');
      await writeFile(join(directory, 'include/caf\u00e9'), 'composed\n');
      for (const name of ['FOO', 'Foo', 'foo']) await writeFile(join(directory, 'casey', name), `${name}\n`);
      await symlink('foo', join(directory, 'casey/link'));
      await symlink('Foo', join(directory, 'casey/Link'));
      const local = await buildLocally(directory, 'probe-local', PROBE);
      expect(local).toContain('include/version: absent');
      const path = await add(directory);

      expect(await buildWith(path, 'probe', PROBE)).toBe(local);

      // Above the share itself, as with guest.store: raw. The share is the host's, and so read-only.
      const raw = await buildWith(
        path,
        'probe-raw',
        `PATH=/bin; mkdir -p /run/raw /run/scratch/raw-upper /run/scratch/raw-work
        mount -t overlay -o lowerdir=/run/host,upperdir=/run/scratch/raw-upper,workdir=/run/scratch/raw-work raw /run/raw
        input=/run/raw/\${input##*/}; ${PROBE}`,
        '__noChroot = true;',
      );
      expect(raw).toContain('include/version: the version\n');
      expect(raw).toContain('casey/Foo~nix~case~hack~1: Foo\n');
      expect(raw).not.toBe(local);
    },
    VM_DEADLINE_MS,
  );

  test(
    'a path with names of the case hack is shown without a remount of the store',
    async () => {
      // A remount would clear the flag.
      const first = await add(await host.writeFile(`${host.id}-first`, 'first'));
      const mark = `/bin/mount -o remount,nosuid /nix/store && echo marked > $out`;
      expect(await buildWith(first, 'mark', mark, '__noChroot = true;')).toBe('marked\n');
      const directory = join(host.dir, `${host.id}-late`);
      await mkdir(directory);
      for (const name of ['A', 'a']) await writeFile(join(directory, name), `${name}\n`);
      const script = `read -r line < $input/a; echo "$line" > $out; /bin/grep ' /nix/store ' /proc/mounts >> $out`;
      const [line, mounts] = (
        await buildWith(await add(directory), 'late', script, '__noChroot = true;')
      ).split('\n');
      expect(line).toBe('a');
      expect(mounts).toContain('nosuid');
      expect((await drover.status()).totals).toMatchObject({ copiedPaths: 0 });
    },
    VM_DEADLINE_MS,
  );

  test(
    "the host's locks and paths that no build asked for are not there",
    async () => {
      const other = await add(await host.writeFile(`${host.id}-other`, 'other'));
      const lock = `/nix/store/yzzz0123456789abcdfghijklmnpqrsv-${host.id}.lock`;
      await writeFile(lock, '', { mode: 0o600 });
      const seen = await buildWith(
        await casey(),
        'look',
        `for f in ${lock} ${other}; do
        [ -e $f ] && echo "there: $f"; [ -e /run/host/\${f##*/} ] && echo "in the share: \${f##*/}"
      done > $out`,
        '__noChroot = true;',
      );
      expect(seen.split('\n').slice(0, -1)).toEqual(
        [lock, other].map((path) => `in the share: ${basename(path)}`),
      );
      await host.deletePaths(lock, other);
    },
    VM_DEADLINE_MS,
  );

  test(
    'a guest whose exact store is killed ends at once, and its build is repeated in another one',
    async () => {
      const path = await casey();
      const before = await drover.status();
      const victim = await onlyGuest(drover);
      const result = await host.build(
        host.derivation(
          'killed',
          `[ "$(cat /proc/sys/kernel/hostname)" != ${victim} ] || { kill -9 $(pidof exact-store); sleep 100; }; echo built by another > $out`,
          `input = builtins.storePath ${path}; __noChroot = true;`,
        ),
      );
      const { outputs } = succeeded(result);
      expect(await readFile(outputs[0] ?? '', 'utf8')).toBe('built by another\n');
      expect((await drover.status()).totals.guestsBooted).toBe(before.totals.guestsBooted + 1);
      expect(await lossOf(drover, victim)).toContain('exact-store');
    },
    2 * VM_DEADLINE_MS,
  );
});
