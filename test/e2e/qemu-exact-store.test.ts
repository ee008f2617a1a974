import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import type { Drover } from '../support/drover.js';
import { nixHost, succeeded, type NixHost } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';
import { ROOT_BUILDS, startVmDrover, VM_DEADLINE_MS } from '../support/vms.js';

/** As on a Mac: files whose names differ in case only get a suffix on disk. */
const CASE_HACK = { NIX_CONFIG: 'use-case-hack = true' };

describeE2e('the exact store in a VM', ['vms'], () => {
  let drover: Drover;
  let host: NixHost;

  beforeAll(async () => {
    drover = await startVmDrover({ guest: ROOT_BUILDS, pool: { maxGuests: 1 }, env: CASE_HACK });
    host = await nixHost({ drover });
  });
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await drover[Symbol.asyncDispose]();
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

  test("the host's locks and paths that no build asked for are not there", async () => {
    const other = await add(await host.writeFile(`${host.id}-other`, 'other'));
    const lock = `/nix/store/yzzz0123456789abcdfghijklmnpqrsv-${host.id}.lock`;
    await writeFile(lock, '', { mode: 0o600 });
    const seen = await buildWith(
      await casey(),
      'look',
      `for f in ${lock} ${other}; do [ -e $f ] && echo $f; done > $out; echo end >> $out`,
      '__noChroot = true;',
    );
    expect(seen).toBe('end\n');
    await host.deletePaths(lock, other);
  });

  test(
    'a guest whose exact store is killed ends at once, and its build is repeated in another one',
    async () => {
      const path = await casey();
      const result = await host.build(
        host.derivation(
          'killed',
          `[ "$(cat /proc/sys/kernel/hostname)" != g1 ] || { kill -9 $(pidof exact-store); sleep 100; }; echo built by another > $out`,
          `input = builtins.storePath ${path}; __noChroot = true;`,
        ),
      );
      const { outputs } = succeeded(result);
      expect(await readFile(outputs[0] ?? '', 'utf8')).toBe('built by another\n');
      expect((await drover.status()).totals).toMatchObject({ guestsBooted: 2 });
      expect(await drover.waitForLog('guest lost')).toMatchObject({
        how: expect.stringContaining('exact-store') as unknown,
      });
    },
    2 * VM_DEADLINE_MS,
  );
});
