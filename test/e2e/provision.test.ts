import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { execa } from 'execa';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import { startDrover, type Drover } from '../support/drover.js';
import { guestInit } from '../support/guests.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { waitUntil } from '../support/wait.js';

describeE2e('provisioning a real guest', [], () => {
  let drover: Drover;
  let host: NixHost;
  let count = 0;

  beforeAll(async () => {
    drover = await startDrover({ config: { pool: { maxGuests: 3, jobsPerGuest: 2 } } });
    host = await nixHost({ drover });
  });
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
  });

  /** The name of a derivation of its own for each build. */
  const fresh = (name: string): string => `${name}-${++count}`;

  /** Adds a file to the host's store, without a guest. */
  async function add(name: string, text: string): Promise<string> {
    const file = await host.writeFile(`${host.id}-${name}`, text);
    return succeeded(await host.run('nix-store', ['--add', file])).stdout.trim();
  }

  /** Deletes a path and everything that keeps it alive: what refers to it, and what was built by that. */
  async function forget(from: NixHost, path: string): Promise<void> {
    const all = new Set([path]);
    for (const one of all) {
      const queries = one.endsWith('.drv') ? ['--referrers', '--outputs'] : ['--referrers'];
      for (const query of queries) {
        const { stdout } = await from.run('nix-store', ['-q', query, one]);
        for (const found of stdout.split('\n')) if (existsSync(found)) all.add(found);
      }
    }
    await from.deletePaths(...all);
  }

  /** Builds in a guest with a store path as an input: what the script prints into its output. */
  async function buildWith(input: string, script: string, name = fresh('use')): Promise<string> {
    const expression = host.derivation(name, script, `input = builtins.storePath ${input};`);
    const { outputs } = succeeded(await host.build(expression));
    return await readFile(outputs[0] ?? '', 'utf8');
  }

  /** Runs a command in a guest's own view of its store. */
  async function inGuest(...command: string[]): Promise<{ exitCode?: number; stdout: string }> {
    const { id } = await waitUntil('a guest without sessions', async () =>
      (await drover.status()).guests.find(({ state }) => state === 'ready'),
    );
    const init = await guestInit(drover.stateDir, id);
    return await execa('nsenter', ['-t', String(init), '-U', '-m', '-p', '--', ...command], {
      reject: false,
    });
  }

  test('a path that the guest looked up before the host had it is shared all the same', async () => {
    const first = await add(fresh('first'), 'first');
    expect(await buildWith(first, 'cat $input > $out')).toBe('first');
    // The same text gives the same path, so its name can be learnt before it is there.
    const name = fresh('late');
    const late = await add(name, 'late');
    await host.deletePaths(late);
    const seen = await inGuest('/bin/stat', late);
    expect(seen.exitCode).toBe(1);
    expect(await add(name, 'late')).toBe(late);
    const { copiedPaths } = (await drover.status()).totals;
    expect(await buildWith(late, 'cat $input > $out')).toBe('late');
    expect((await drover.status()).totals.copiedPaths).toBe(copiedPaths);
  });

  test('a path with names that are not the true ones is copied, and nothing else', async () => {
    const tree = join(await host.writeFile('x', ''), '..', `${host.id}-hack-${++count}`);
    await mkdir(tree);
    // As Nix leaves it on a file system that ignores case; its NAR has both names as they truly are.
    await writeFile(join(tree, 'foo'), 'one');
    await writeFile(join(tree, 'FOO~nix~case~hack~1'), 'two');
    // Host store and client alike, as on macOS.
    await using hackingDrover = await startDrover({ env: { NIX_CONFIG: 'use-case-hack = true' } });
    const hacking = await nixHost({ drover: hackingDrover, nixConf: { 'use-case-hack': 'true' } });
    try {
      const path = succeeded(await hacking.run('nix-store', ['--add', tree])).stdout.trim();
      const before = (await hackingDrover.status()).totals;
      const expression = hacking.derivation(
        'hack',
        'cd $input; for f in *; do echo "$f: $(cat "$f")"; done > $out',
        `input = builtins.storePath ${path}; other = builtins.storePath ${await add(fresh('other'), 'o')};`,
      );
      const { outputs } = succeeded(await hacking.build(expression));
      expect((await readFile(outputs[0] ?? '', 'utf8')).split('\n').filter(Boolean).sort()).toEqual([
        'FOO: two',
        'foo: one',
      ]);
      const after = (await hackingDrover.status()).totals;
      expect([after.copiedPaths - before.copiedPaths, after.sharedPaths - before.sharedPaths]).toEqual([
        1, 1,
      ]);
    } finally {
      await hacking[Symbol.asyncDispose]();
    }
  });

  test('an output that a guest has only from sharing it once is really built again, in another guest', async () => {
    const name = fresh('gone');
    const expression = host.derivation(name, 'echo built > $out');
    const { outputs } = succeeded(await host.build(expression));
    const [path = ''] = outputs;
    // Share it into whatever guest comes next: that may be the builder, which has it already, so take a new one.
    await using other = await startDrover();
    await using there = await nixHost({ drover: other });
    const user = there.derivation('user', 'cat $input > $out', `input = builtins.storePath ${path};`);
    const used = succeeded(await there.build(user));
    expect(await readFile(used.outputs[0] ?? '', 'utf8')).toBe('built\n');
    await waitUntil('the sessions to end', async () => (await other.status()).sessions === 0);
    await forget(there, path);
    const again = await there.build(expression);
    expect(succeeded(again).outputs).toEqual([path]);
    expect(await readFile(path, 'utf8')).toBe('built\n');
    succeeded(await there.run('nix-store', ['--verify-path', path]));
    await other.caughtUp();
    const [first, second, ...more] = other.events.of('build-finished').map(({ guest }) => guest);
    expect(more).toEqual([]);
    expect(second).not.toBe(first);
    expect(other.events.of('guest-retired')).toContainEqual(
      expect.objectContaining({ guest: first, reason: 'conflict' }),
    );
  });

  test('an input that was deleted and has come back is seen as it is now', async () => {
    const name = fresh('back');
    const path = await add(name, 'back');
    expect(await buildWith(path, 'cat $input > $out; echo 1 >> $out')).toBe('back1\n');
    await waitUntil('the sessions to end', async () => (await drover.status()).sessions === 0);
    await forget(host, path);
    expect(await add(name, 'back')).toBe(path);
    expect(await buildWith(path, 'cat $input > $out; echo 2 >> $out')).toBe('back2\n');
  });

  test('a path that is valid on the host but not on its disk is named, with what to do', async () => {
    const path = await add(fresh('hollow'), 'hollow');
    await rename(path, `${path}.away`);
    try {
      const expression = host.derivation(fresh('use'), 'cat $input > $out', `input = "${path}";`);
      const withContext = expression.replace(
        `"${path}"`,
        `builtins.appendContext "${path}" { "${path}" = { path = true; }; }`,
      );
      const result = await host.build(withContext);
      expect(result.exitCode).not.toBe(0);
      expect(result.stderr).toContain(`drover: ${path} is valid on the host, but it is not on its disk`);
      expect(result.stderr).toContain('nix-store --verify --check-contents --repair');
      expect(result.stderr).not.toContain('cannot be copied');
    } finally {
      await rename(`${path}.away`, path);
    }
    expect(await buildWith(path, 'cat $input > $out')).toBe('hollow');
  });

  test('inputs are pinned on the host while a build uses them, and free afterwards', async () => {
    const path = await add(fresh('pinned'), 'pinned');
    // Drover as the store: a client that builds in its own store would pin the input itself.
    const [store = ''] = (await drover.machines('socket')).split(' ');
    const wait = 'echo waiting >&2; while :; do sleep 1; done';
    const running = host.startBuild(
      host.derivation(fresh('wait'), wait, `input = builtins.storePath ${path};`),
      [...['--store', store, '--option', 'system', 'x86_64-linux']],
    );
    await running.waitForOutput('waiting');
    const pinned = await host.run('nix-store', ['--delete', path]);
    expect(pinned.exitCode).not.toBe(0);
    expect(pinned.stderr).toContain('still alive');
    running.signalGroup('SIGINT');
    await running.ended;
    await waitUntil('the sessions to end', async () => (await drover.status()).sessions === 0);
    await forget(host, path);
  });

  test('a path with other contents in the guest than on the host: another guest builds', async () => {
    const position = await drover.caughtUp();
    const random = host.derivation(
      fresh('random'),
      'read -r line < /proc/sys/kernel/random/uuid; echo $line > $out',
    );
    const { outputs } = succeeded(await host.build(random));
    const [path = ''] = outputs;
    const { guest: builder } = await drover.events.waitFor('build-finished', () => true, { since: position });
    // The host gets its own contents for the same path, as from a cache.
    await waitUntil('the sessions to end', async () => (await drover.status()).sessions === 0);
    await forget(host, path);
    const local = await nixHost();
    try {
      const drv = succeeded(await host.run('nix-instantiate', ['-E', random])).stdout.trim();
      succeeded(await local.run('nix-store', ['--option', 'system', 'x86_64-linux', '-r', drv]));
    } finally {
      await local[Symbol.asyncDispose]();
    }
    const contents = await readFile(path, 'utf8');
    const since = await drover.caughtUp();
    expect(await buildWith(path, 'cat $input > $out')).toBe(contents);
    await drover.caughtUp();
    const retired = drover.events.of('guest-retired', since).find(({ guest }) => guest === builder);
    if (retired !== undefined) expect(retired.reason).toBe('conflict');
    expect(drover.events.of('build-finished', since).at(-1)?.guest).not.toBe(builder);
  });

  test('a path whose files cannot be read is named', async () => {
    // Only for users other than root, who can read everything.
    const path = await add(fresh('closed'), 'closed');
    await chmod(path, 0o000);
    expect(await buildWith(path, '[ -e $input ] && echo there > $out')).toBe('there\n');
  });
});
