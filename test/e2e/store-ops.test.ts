import { mkdtemp, readFile, rm } from 'node:fs/promises';

import { afterAll, beforeAll, expect, test } from '@jest/globals';

import { startDrover, type Drover } from '../support/drover.js';
import {
  NIX_DIRS,
  nixHost,
  succeeded,
  withSshConfig,
  type NixHost,
  type NixVersion,
} from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const DOORS = ['socket', 'ssh'] as const;
const VERSIONS: readonly NixVersion[] = ['debian', 'modern'];
const combinations = VERSIONS.flatMap((version) => DOORS.map((door) => ({ version, door })));

describeE2e('the doors as a store', ['modern-nix'], () => {
  const drovers = new Map<NixVersion, Drover>();
  beforeAll(async () => {
    for (const version of VERSIONS) drovers.set(version, await startDrover({ nix: NIX_DIRS[version] }));
  });
  afterAll(async () => {
    for (const drover of drovers.values()) await drover[Symbol.asyncDispose]();
  });

  function droverOf(version: NixVersion): Drover {
    const drover = drovers.get(version);
    if (drover === undefined) throw new Error('not started');
    return drover;
  }

  /** The store URL in the line for Nix's `builders`. */
  async function storeOf(host: NixHost, drover: Drover, door: 'socket' | 'ssh'): Promise<string> {
    const [uri = ''] = (await drover.machines(door)).split(/\s+/);
    return withSshConfig(uri, host.dir);
  }

  async function add(
    host: NixHost,
    name: string,
    text: string,
    args: readonly string[] = [],
  ): Promise<string> {
    const file = await host.writeFile(`${host.id}-${name}`, text);
    return succeeded(await host.run('nix-store', [...args, '--add', file])).stdout.trim();
  }

  test.each(combinations)(
    'a $version client asks what is there, through the $door door',
    async ({ version, door }) => {
      const drover = droverOf(version);
      await using host = await nixHost({ version, door, drover });
      const store = await storeOf(host, drover, door);
      const since = await drover.caughtUp();
      succeeded(await host.run('nix', ['store', 'ping', '--store', store]));
      await drover.caughtUp();
      expect(drover.events.of('lease-granted', since)).toEqual([]);
      const path = await add(host, 'valid', 'valid');
      expect(succeeded(await host.run('nix', ['path-info', '--store', store, path])).stdout.trim()).toBe(
        path,
      );
      expect(succeeded(await host.run('nix-store', ['--store', store, '--dump', path])).stdout).toContain(
        'nix-archive-1',
      );
      await drover.caughtUp();
      expect(drover.events.of('lease-granted', since)).toEqual([]);
      const unknown = path.replace(/store\/.{8}/, 'store/00000000');
      const refused = await host.run('nix', ['path-info', '--store', store, unknown]);
      expect(refused.exitCode).not.toBe(0);
      expect(refused.stderr).toContain('is not valid');
    },
  );

  test.each(combinations)(
    'a $version client copies there and back, and builds with it, through the $door door',
    async ({ version, door }) => {
      const drover = droverOf(version);
      await using host = await nixHost({ version, door, drover });
      const store = await storeOf(host, drover, door);
      const root = await mkdtemp('/tmp/elsewhere-');
      try {
        const elsewhere = `local?root=${root}`;
        // Another machine in effect: its store has what the host's has not, and refers to what both have.
        const shared = await add(host, 'shared', 'shared');
        succeeded(await host.run('nix', ['copy', '--no-check-sigs', '--to', elsewhere, shared]));
        const own: string[] = [];
        for (const name of ['own', 'other']) {
          const text = `builtins.toFile "e2e-${host.id}-${name}" "see \${builtins.storePath ${shared}}"`;
          own.push(
            succeeded(
              await host.run('nix', [
                ...['eval', '--impure', '--raw', '--store', elsewhere, '--expr'],
                `builtins.unsafeDiscardStringContext (${text})`,
              ]),
            ).stdout,
          );
        }
        expect((await host.run('nix', ['path-info', ...own])).exitCode).not.toBe(0);
        // The second time the guest has them already, and the host still has not.
        for (let time = 0; time < 2; time++) {
          succeeded(
            await host.run('nix', ['copy', '--no-check-sigs', '--from', elsewhere, '--to', store, ...own]),
          );
        }

        const back = await mkdtemp('/tmp/back-');
        succeeded(
          await host.run('nix', [
            'copy',
            '--no-check-sigs',
            '--from',
            store,
            '--to',
            `local?root=${back}`,
            shared,
          ]),
        );
        expect(await readFile(`${back}${shared}`, 'utf8')).toBe('shared');
        await rm(back, { recursive: true, force: true });
      } finally {
        await rm(root, { recursive: true, force: true });
      }
    },
  );

  test.each(combinations)(
    'a $version client builds there, with everything that is needed for it, through the $door door',
    async ({ version, door }) => {
      const drover = droverOf(version);
      await using host = await nixHost({ version, door, drover });
      const store = await storeOf(host, drover, door);
      const name = `remote-${version}-${door}`;
      const input = host.derivation(`${name}-input`, 'echo input > $out');
      const output = host.derivation(
        `${name}-output`,
        'cat $input > $out; echo output >> $out',
        `input = ${input};`,
      );
      const built = succeeded(await host.build(output, ['--store', store]));
      expect(built.outputs[0]).toContain(`${name}-output`);
      expect(succeeded(await host.build(output, ['--store', store])).outputs).toEqual(built.outputs);
      const fromNix = host.derivation(`${name}-nix`, 'echo nix > $out');
      succeeded(
        await host.run('nix', ['build', '--impure', '--no-link', '--store', store, '--expr', fromNix]),
      );
      const drv = succeeded(
        await host.run('nix-instantiate', ['-E', host.derivation(`${name}-r`, 'echo r > $out')]),
      ).stdout.trim();
      succeeded(await host.run('nix-store', ['--store', store, '-r', drv]));
    },
  );
});
