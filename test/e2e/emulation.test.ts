import { existsSync } from 'node:fs';
import { chmod, readFile, writeFile } from 'node:fs/promises';

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execa } from 'execa';

import { aarch64Program } from '../support/aarch64-program.js';
import { startDrover } from '../support/drover.js';
import { NIX_DIRS, nixHost, nixString, succeeded } from '../support/nix.js';
import { describeE2e } from '../support/requirements.js';

const BINFMT = '/proc/sys/fs/binfmt_misc';
const HANDLER = `${BINFMT}/qemu-aarch64`;

describeE2e('a derivation for another machine', ['modern-nix', 'emulation'], () => {
  /** Steps to undo, in reverse order. */
  const undo: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    if (!existsSync(`${BINFMT}/register`)) {
      await execa('mount', ['-t', 'binfmt_misc', 'binfmt_misc', BINFMT]);
      undo.push(() => execa('umount', ['--lazy', BINFMT])); // another supervisor may be looking
    }
    if (!existsSync(HANDLER)) {
      await writeFile(`${BINFMT}/register`, await readFile('/usr/lib/binfmt.d/qemu-aarch64.conf'));
      undo.push(() => writeFile(HANDLER, '-1'));
    }
  });

  afterAll(async () => {
    for (const step of undo.reverse()) await step();
  });

  test.each(['debian', 'modern'] as const)(
    'is built where the kernel runs its programs (aarch64-linux, %s Nix)',
    async (version) => {
      await using drover = await startDrover({ nix: NIX_DIRS[version] });
      expect((await drover.status()).systems).toContain('aarch64-linux');
      await using host = await nixHost({ version, drover });
      const program = await host.writeFile('program', '');
      await writeFile(program, aarch64Program());
      await chmod(program, 0o755);

      const { outputs } = succeeded(
        await host.build(`derivation {
          name = "e2e-${host.id}-foreign";
          system = "aarch64-linux";
          builder = builtins.path { name = "e2e-${host.id}-program"; path = /. + ${nixString(program)}; };
          args = [ (builtins.placeholder "out") ];
        }`),
      );

      expect(await readFile(outputs[0] ?? '', 'utf8')).toBe('aarch64\n');
    },
  );

  test('is not asked for where the configuration leaves its system out', async () => {
    await using drover = await startDrover({ config: { systems: ['x86_64-linux'] } });
    expect(await drover.machines('socket')).not.toContain('aarch64-linux');
  });
});
